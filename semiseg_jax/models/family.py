"""The networks that `config.model` describes: of one architecture, or of several unlike ones."""

import ast
import difflib
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError


def members(model: ConfigDict) -> list[tuple[ConfigDict, int]]:
  """Returns the block of each architecture, and how many copies of a net are of it (0: all).

  `model.family` holds a text for each: changes of the block such as
  'backbone=dinov2_small, head=dpt, copies=1'.  `copies` is 1 where it is not given.

  Raises:
    ConfigError: no text, one that cannot be read, an unknown key, or a value of another type.
  """
  if not model.family:
    return [(model, 0)]
  other = [item for item in model.family if not isinstance(item, str)]
  if other:
    raise ConfigError(
      f"model.family: {other[0]!r} is no text: write one for each network, such as "
      "('backbone=tiny', 'backbone=resnet18')."
    )
  return [_member(model, text) for text in model.family]


def _member(model: ConfigDict, text: str) -> tuple[ConfigDict, int]:
  block, copies = ConfigDict(model.to_dict()), 1
  block.family = ()
  flat = dict(block.items())
  for change in _split(text):
    key, equals, value = (part.strip() for part in change.partition("="))
    if key == "copies":
      if not value.isdecimal() or int(value) == 0:
        raise ConfigError(f"model.family: {change!r} in {text!r}: a whole number above 0.")
      copies = int(value)
      continue
    place, old = _find(block, key)
    if not equals or place is None or key == "family" or isinstance(old, ConfigDict):
      names = ["copies", *(k for k, v in flat.items() if k != "family")]
      near = difflib.get_close_matches(key, names, 1)
      raise ConfigError(
        f"model.family: {change!r} in {text!r}: write key=value with copies, a key of the block "
        f"model or BLOCK.KEY{f'; did you mean {near[0]!r}?' if near else '.'}"
      )
    place[key.rpartition(".")[2]] = _typed(value, old, change)
  return block, copies


def _split(text: str) -> list[str]:
  """The changes of a text, at commas outside of brackets."""
  parts, depth = [""], 0
  for letter in text:
    depth += (letter in "([") - (letter in ")]")
    if letter == "," and not depth:
      parts.append("")
    else:
      parts[-1] += letter
  return [part.strip() for part in parts if part.strip()]


def _find(block: ConfigDict, key: str) -> tuple[ConfigDict | None, Any]:
  *outer, name = key.split(".")
  for part in outer:
    block = block.get(part) if isinstance(block, ConfigDict) else None
  known = isinstance(block, ConfigDict) and name in block
  return (block, block[name]) if known else (None, None)


def _typed(value: str, old: Any, change: str) -> Any:
  if isinstance(old, str):
    return value
  try:
    new = ast.literal_eval(value)
  except (ValueError, SyntaxError):
    new = None
  if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
    new = float(new)
  if type(new) is not type(old):
    kinds = {bool: "True or False", int: "a whole number", float: "a number", tuple: "such as"}
    like = f" {old!r}" if isinstance(old, tuple) else ""
    raise ConfigError(f"model.family: {change!r}: {kinds[type(old)]}{like}.")
  return new
