"""An entry of a classes file: its id, name and color, checked."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]
_HEX = re.compile(r"#([0-9a-f]{6})(?:ff)?", re.IGNORECASE)
_NUMBERS = re.compile(r"(?:rgba?)?\s*[(\[]?\s*(\d+(?:[\s,;]+\d+)*)\s*[)\]]?", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d{1,9}")
_LARGEST = 10**9
_SHOWN = 40  # characters of a wrong value


@dataclasses.dataclass(frozen=True)
class Entry:
  """A class, or what stands for ignored pixels.

  Attributes:
    id: in the source's label files.
    name: as people call it.
    rgb: its color, None when the file gives none.
    ignored: whether the file marks it as no class.
  """

  id: int
  name: str
  rgb: tuple[int, int, int] | None
  ignored: bool = False


def parse(entries: Sequence[Any]) -> tuple[list[Entry], bool]:
  """Entries of fields 'id', 'name', 'rgb' or 'color', and whether they are counted for lack of ids.

  Raises:
    ValueError: a field that is missing or of another kind.
  """
  for number, fields in enumerate(entries, 1):
    if not isinstance(fields, Mapping):
      raise ValueError(f"entry {number} is {shown(fields)} in place of a class with a name")
  counted = bool(entries) and not any("id" in fields for fields in entries)
  return [
    _entry(number, {"id": number} | dict(fields) if counted else fields)
    for number, fields in enumerate(entries)
  ], counted


def whole(value: Any, what: str) -> int:
  """An integer, also as a text or as a float such as 1.0; ValueError for anything else."""
  if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
    value = int(value)
  if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _LARGEST:
    raise ValueError(f"{what} is {shown(value)}, which is no whole number")
  return value


def shown(value: Any) -> str:
  """A value as it stands in messages."""
  if value is None:
    return "empty"
  if isinstance(value, int) and abs(value) > _LARGEST:
    return "a huge number"
  text = repr(value)
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _entry(number: int, fields: Fields) -> Entry:
  if "name" not in fields:
    raise ValueError(f"entry {number + 1} has no name")
  name = check_name(fields["name"])
  if "id" not in fields:
    raise ValueError(f"class {name!r} has no id, as others have")
  ignored = fields.get("ignored", False)
  if not isinstance(ignored, bool):
    raise ValueError(f"'ignored' of class {name!r} is {shown(ignored)}; give true or false")
  color = fields.get("rgb", fields.get("color"))
  rgb = None if color is None else _color(color, name)
  return Entry(whole(fields["id"], f"the id of class {name!r}"), name, rgb, ignored)


def check_name(name: Any) -> str:
  """A name without blanks around it; ValueError when it is none."""
  if not isinstance(name, str):
    raise ValueError(f"{shown(name)} is no name of a class; put it in quotes")
  name = name.strip()
  if not name or re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
    raise ValueError(f"{shown(name)} is no name of a class")
  return name


def _color(color: Any, name: str) -> tuple[int, int, int]:
  """(r, g, b) of three numbers, of four whose last is an opaque alpha, or of a text of these."""
  values = _numbers(color) if isinstance(color, str) else color
  if isinstance(values, Sequence) and len(values) == 4 and values[3] == 255:
    values = values[:3]
  if (
    isinstance(values, str)
    or not isinstance(values, Sequence)
    or len(values) != 3
    or not all(_is_level(value) for value in values)
    # Of floats up to 1 nobody knows whether 1 means 255.
    or (any(isinstance(value, float) for value in values) and 0 < max(values) <= 1)
  ):
    raise ValueError(
      f"the color of class {name!r} is {shown(color)}; give red, green and blue as whole numbers "
      "from 0 to 255, or '#rrggbb'"
    )
  red, green, blue = (int(value) for value in values)
  return red, green, blue


def _numbers(text: str) -> Sequence[int] | str:
  """The numbers of '#rrggbb', '1, 2, 3' or 'rgb(1, 2, 3)'; other texts as they are."""
  if hexadecimal := _HEX.fullmatch(text.strip()):
    return list(bytes.fromhex(hexadecimal[1]))
  numbers = _NUMBERS.fullmatch(text.strip())
  words = re.split(r"[\s,;]+", numbers[1]) if numbers else []
  return [int(word) for word in words] if words and max(map(len, words)) < 4 else text


def _is_level(value: Any) -> bool:
  if isinstance(value, str):
    return bool(_WHOLE.fullmatch(value)) and 0 <= int(value) <= 255
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and 0 <= value <= 255 and value == int(value)
