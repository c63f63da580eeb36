"""Keys whose values a config file derived from the data set and the device, with the reasons.

`config.derived` has a text 'KEY=VALUE: REASON' for each.  A later start of the run takes the values
of the first, wherever it runs; what the command line gives goes before both.
"""

import ast
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from semiseg_jax import seals
from semiseg_jax.errors import ConfigError
from semiseg_jax.options import flat
from semiseg_jax.workdir import checkpoints


class Derived(NamedTuple):
  """The value of a key, and why it has it."""

  key: str
  value: Any
  reason: str


def text(one: Derived) -> str:
  """Returns the text of `config.derived`."""
  return f"{one.key}={one.value!r}: {one.reason}"


def read(texts: Sequence[str]) -> list[Derived]:
  """Returns what texts of `config.derived` say; others than `text` makes are left out."""
  derived = []
  for item in texts:
    name, equals, rest = item.partition("=")
    for at in (i for i, letter in enumerate(rest) if letter == ":"):
      try:
        derived.append(Derived(name, ast.literal_eval(rest[:at]), rest[at + 1 :].strip()))
        break
      except (SyntaxError, ValueError):  # a colon inside of the value
        continue
  return derived


def lines(config: ConfigDict) -> list[str]:
  """Returns a line for each derived key: its value and reason, or what was given in its place."""
  values, said = flat(config.to_dict()), []
  for one in read(config.derived):
    value = _plain(values.get(one.key, one.value))
    if value == one.value:
      said.append(f"  derived    {one.key}={one.value!r}: {one.reason}")
    else:
      said.append(f"  given      {one.key}={value!r}; derived was {one.value!r}: {one.reason}")
  return said


def recalled(config: ConfigDict, workdir: str) -> ConfigDict:
  """Returns the config with the derived values of the first start of the run in `workdir`.

  A key that the command line gives another value than the derived one keeps it.  What differs from
  the values that would be derived now is said.

  Raises:
    ConfigError: config.json was edited, or is damaged, and no checkpoint tells of them.
  """
  now = {one.key: one.value for one in read(config.derived)}
  saved = flat(_first(workdir)) if now else {}
  before = {one.key: one.value for one in read(saved.get("derived", ()))}
  if not before or before == now:
    return config
  values, changes = flat(config.to_dict()), {}
  for key in (name for name in values if name in before or name in now):
    untouched = key not in now or _plain(values[key]) == now[key]
    old = before.get(key, _plain(saved.get(key)))
    if untouched and key in saved and old != _plain(values[key]):
      changes[key] = old
  _say(changes, values)
  kept = ConfigDict(config.to_dict())
  kept.update_from_flattened_dict({**changes, "derived": tuple(saved["derived"])})
  return kept


def _first(workdir: str) -> dict[str, Any]:
  """The config of the first start, of a checkpoint or else of config.json; {}: none."""
  found, file = checkpoints.newest(workdir), pathlib.Path(workdir) / "config.json"
  if found is not None:
    return found[1]["config"]
  try:
    saved = json.loads(file.read_text())
    wrong = seals.problem(saved)
  except FileNotFoundError:
    return {}
  except (ValueError, TypeError, RecursionError) as error:
    wrong = f"it cannot be read ({error})"
  if wrong:
    raise ConfigError(
      f"{file}: {wrong}. No checkpoint tells what was derived at the first start: delete the file, "
      "and the values are derived anew."
    )
  return saved


def _say(changes: Mapping[str, Any], values: Mapping[str, Any]) -> None:
  if jax.process_index():
    return
  for key, value in changes.items():
    print(f"  NOTE       {key}={value!r} as at the first start; now {values[key]!r} would be taken")


def _plain(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value
