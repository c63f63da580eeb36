"""What is said of keys that do not exist and of values that cannot be read."""

import ast
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from semiseg_jax.arguments import command
from semiseg_jax.config import domain, other_words, schema

_FLAG = re.compile(r"--?config\.([\w.]+)(?:=(.*))?", re.DOTALL)
_TRUTH = ("true", "t", "1", "yes", "y", "false", "f", "0", "no", "n")

ALL_KEYS = "semiseg_jax.config"  # the command that lists them


def wrong_flags(argv: Sequence[str]) -> list[str]:
  """Returns a line for each `--config.KEY=VALUE` that names no key, or whose value has no sense."""
  known, lines = schema.table(), []
  for argument, following in zip(argv, [*argv[1:], ""]):
    found = _FLAG.fullmatch(argument)
    if not found:
      continue
    path, value = found[1], following if found[2] is None else found[2]
    if path not in known:
      lines.append(f"--config.{unknown(path, known)}")
    elif not _readable(known[path].type, value):
      lines.append(f"--config.{path}={value}: {domain.describe(known[path])}.")
  return lines


def unknown_option(name: str, options: Iterable[str] = ()) -> str:
  """Returns a line on `--name`, which is none of the `options` of a command that takes a config."""
  path, known = name.removeprefix("config."), schema.table()
  if path in known:
    return f"--{name}: keys of the config are written --config.{path}=VALUE."
  own, near = difflib.get_close_matches(name, list(options), 1, 0.75), nearest(path, known, 1)
  meant = f" Did you mean --config.{near[0]}=VALUE?" if near else ""
  meant = f" Did you mean --{own[0]}?" if own else meant
  return f"--{name} is no option.{meant} --help lists the options, `{command(ALL_KEYS)}` the keys."


def _readable(kind: Any, text: str) -> bool:
  """Whether a text can be a value of this type; a bool may stand without one."""
  if kind is bool:
    return text.startswith("-") or not text or text.lower() in _TRUTH
  read = {int: int, float: float, str: str}.get(kind, ast.literal_eval)
  try:
    read(text)
  except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
    return False
  return True


def unknown(path: str, known: Iterable[str]) -> str:
  """Returns a line on a path that is no key."""
  known = list(known)
  near = nearest(path, known)
  block = path if path in {k.rpartition(".")[0] for k in known} else path.rpartition(".")[0]
  if not block and near:
    block = near[0].rpartition(".")[0]
  inside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == block]
  if not block or not inside:
    inside, block = sorted({k.partition(".")[0] for k in known}), "a config"
  nearest_ones = f"; nearest: {', '.join(near)}" if near else ""
  return f"{path} is no key{nearest_ones}. Keys of {block}: {', '.join(inside)}."


def nearest(path: str, known: Iterable[str], count: int = 3) -> list[str]:
  """Returns the keys of which `path` may be a misspelling, an abbreviation or a relative.

  Those of the same block come first, then what other code bases call so, then those nearest to the
  top.
  """
  known = list(known)
  block, _, asked = path.rpartition(".")
  scores = {key: _likeness(asked, key.rpartition(".")[2]) for key in known}
  near = [key for key, score in scores.items() if score >= 0.6]
  near.sort(key=lambda key: (-scores[key] - 0.3 * _is_in(block, key), key.count(".")))
  meant = other_words.meant(path, known)
  if meant:
    here = [] if _is_in(block, meant) else [key for key in near if _is_in(block, key)]
    near = list(dict.fromkeys([*here, meant, *near]))
  return near[:count]


def _is_in(block: str, key: str) -> bool:
  return bool(block) and key.rpartition(".")[0] == block


def _likeness(asked: str, name: str) -> float:
  words = name.split("_")
  beginning = len(os.path.commonprefix([asked, name]))
  return max(
    difflib.SequenceMatcher(None, asked, name).ratio(),
    0.5 + 0.05 * beginning if beginning > 3 else 0,
    0.9 if len(words) > 1 and asked == "".join(word[0] for word in words) else 0,
  )
