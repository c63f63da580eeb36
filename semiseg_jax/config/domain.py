"""Whether a value is one that its key can have, and that in words."""

import difflib
import math
import typing
from collections.abc import Iterator
from typing import Any

from semiseg_jax.config.schema import Entry
from semiseg_jax.options import Key

_ONE = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def fault(entry: Entry, value: Any) -> str:
  """Returns what is wrong with a value, in one line that begins with its path; '' if nothing is."""
  key, items = entry.key, value if isinstance(value, (tuple, list)) else (value,)
  kind, lengths = _kind(entry)
  if key.required and value == entry.default == "":
    return f"{entry.path} is empty: {key.help}."
  fits = (
    isinstance(value, (tuple, list)) == (lengths is not None)
    and all(_is_a(item, kind) for item in items)
    and (not lengths or len(items) in lengths)
    and all(_within(item, key) for item in items)
    and not (key.rises and len(items) == 2 and items[0] > items[1])
  )
  if fits:
    return ""
  shown = tuple(value) if isinstance(value, list) else value
  return f"{entry.path}={shown!r}: {describe(entry)}.{_near(entry, items)}"


def describe(entry: Entry) -> str:
  """Returns the possible values of a key, in words."""
  key, (kind, lengths) = entry.key, _kind(entry)
  possible = _possible(key)
  names = ", ".join(map(repr, possible))
  if lengths is None:
    head = f"one of {names}" if possible else _ONE[kind]
  else:
    count = " or ".join(str(n or "none") for n in lengths)
    head = f"{count} {_MANY[kind]}".strip()
    if possible:
      head = f"any of {names}"
  each = "each " if lengths is not None else ""
  bounds = [f"{each}{text}" for text in _bounds(key)]
  order = ["the first not above the second"] * key.rises
  return ", ".join((head, *bounds, *order))


def _kind(entry: Entry) -> tuple[type, tuple[int, ...] | None]:
  """The type of a value or of its items, and the possible numbers of these; None: no tuple."""
  if typing.get_origin(entry.type) is not tuple:
    return entry.type, None
  items = typing.get_args(entry.type)
  fixed = () if items[-1] is Ellipsis else (len(items),)
  return items[0], entry.key.length or fixed


def _is_a(item: Any, kind: type) -> bool:
  if kind is float:
    return isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)
  return isinstance(item, kind) and (kind is bool or not isinstance(item, bool))


def _within(item: Any, key: Key) -> bool:
  return (
    (key.one_of is None or item in _possible(key))
    and (key.at_least is None or item >= key.at_least)
    and (key.above is None or item > key.above)
    and (key.at_most is None or item <= key.at_most)
    and (key.below is None or item < key.below)
  )


def _possible(key: Key) -> tuple[Any, ...]:
  return tuple(key.one_of() if callable(key.one_of) else key.one_of or ())


def _bounds(key: Key) -> Iterator[str]:
  if key.at_least is not None:
    yield f"{key.at_least} or more"
  if key.above is not None:
    yield f"above {key.above}"
  if key.at_most is not None:
    yield f"at most {key.at_most}"
  if key.below is not None:
    yield f"below {key.below}"


def _near(entry: Entry, items: Any) -> str:
  """The nearest possible text to each that is none."""
  possible = [text for text in _possible(entry.key) if isinstance(text, str)]
  wrong = [item for item in items if isinstance(item, str) and item not in possible]
  near = [match for item in wrong for match in difflib.get_close_matches(item, possible, n=1)]
  return f" Did you mean {', '.join(map(repr, near))}?" if near else ""
