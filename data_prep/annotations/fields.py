"""Values of parsed files, checked: one of another kind is a ValueError in plain words."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from data_prep.annotations.shapes import Size
from semiseg_jax.data.class_entries import shown

_Read = TypeVar("_Read")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*")
_LARGEST = 10**7  # of sizes, coordinates and ids that are counted with


def get(fields: Any, key: str) -> Any:
  """A field that must be there."""
  if not isinstance(fields, Mapping):
    raise ValueError(f"{shown(fields)} in place of fields with {key!r}")
  if key not in fields:
    raise ValueError(f"{key!r} is missing")
  return fields[key]


def inner(fields: Any, key: str) -> Mapping[str, Any]:
  """A field that holds fields; none when it is missing or empty."""
  value = fields.get(key) or {}
  if not isinstance(value, Mapping):
    raise ValueError(f"{key!r} is {shown(value)} in place of fields")
  return value


def items(fields: Any, key: str) -> list[Any]:
  """A field that is a list."""
  value = get(fields, key)
  if not isinstance(value, list | tuple):
    raise ValueError(f"{key!r} is {shown(value)}, which is no list")
  return list(value)


def text(fields: Any, key: str) -> str:
  """A field that is a text with letters."""
  value = get(fields, key)
  if not isinstance(value, str) or not value.strip():
    raise ValueError(f"{key!r} is {shown(value)}, which is no text")
  return value


def number(value: Any, what: str) -> float:
  """A number, also as a text."""
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    value = float(value)
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"{what!r} is {shown(value)}, which is no number")
  if not abs(value) <= _LARGEST:
    raise ValueError(f"{what!r} is {shown(value)}, which is too large")
  return value


def whole(value: Any, what: str, least: int | None = None) -> int:
  """A whole number, also as a text or as 1.0."""
  found = number(value, what)
  if found != int(found):
    raise ValueError(f"{what!r} is {shown(value)}, which is no whole number")
  if least is not None and found < least:
    raise ValueError(f"{what!r} is {shown(value)}, which is less than {least}")
  return int(found)


def numbers(value: Any, what: str, count: int) -> list[float]:
  """A list of `count` numbers."""
  if not isinstance(value, list | tuple) or len(value) != count:
    raise ValueError(f"{what!r} is {shown(value)} in place of {count} numbers")
  return [number(each, what) for each in value]


def size(height: Any, width: Any) -> Size | None:
  """The (H, W) of a picture; None when one is missing or 0, as in files that do not know it."""
  if height in (None, 0, "") or width in (None, 0, ""):
    return None
  return whole(height, "height", 1), whole(width, "width", 1)


def key(value: Any, what: str) -> int | str:
  """An id: a whole number, also as its text or as 1.0, or another text."""
  if isinstance(value, str) and not re.fullmatch(r"0|-?[1-9]\d{0,17}", value):
    return value
  if isinstance(value, float) and value.is_integer():
    return int(value)
  if isinstance(value, bool) or not isinstance(value, int | str):
    raise ValueError(f"{what!r} is {shown(value)}, which is no id")
  return int(value)


def is_set(fields: Mapping[str, Any], name: str) -> bool:
  """A field of 0 or 1, or false or true; missing, it is 0."""
  value = fields.get(name, 0)
  return value if isinstance(value, bool) else bool(whole(value, name, 0))


def each(values: Iterable[Any], what: str, read: Callable[[Any], _Read]) -> list[_Read]:
  """What `read` makes of values; its ValueError names the number of the value."""
  found = []
  for count, value in enumerate(values, 1):
    try:
      found.append(read(value))
    except ValueError as error:
      raise ValueError(f"{what} {count}: {error}") from error
  return found
