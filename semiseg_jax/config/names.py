"""What is said of a key that does not exist: its block's keys, and the nearest of all."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence

from semiseg_jax.config import schema

_FLAG = re.compile(r"--?config\.([\w.]+)")


def unknown_flags(argv: Sequence[str]) -> str:
  """Returns a line for the first `--config.KEY` that names no key; '' if there is none."""
  known = schema.table()
  for argument in argv:
    found = _FLAG.match(argument)
    if found and found[1] not in known:
      return unknown(found[1], known)
  return ""


def unknown(path: str, known: Iterable[str]) -> str:
  """Returns a line on a path that is no key."""
  known = list(known)
  near = nearest(path, known)
  block = path if path in {k.rpartition(".")[0] for k in known} else path.rpartition(".")[0]
  inside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == block]
  if not block or not inside:
    inside, block = sorted({k.partition(".")[0] for k in known}), "a config"
  nearest_ones = f"; nearest: {', '.join(near)}" if near else ""
  return f"{path} is no key{nearest_ones}. Keys of {block}: {', '.join(inside)}."


def nearest(path: str, known: Iterable[str], count: int = 3) -> list[str]:
  """Returns the keys of which `path` may be a misspelling, an abbreviation or a relative.

  Those of the same block come first, then those nearest to the top.
  """
  block, _, asked = path.rpartition(".")
  scores = {key: _likeness(asked, key.rpartition(".")[2]) for key in known}
  near = [key for key, score in scores.items() if score >= 0.6]
  near.sort(key=lambda key: (-scores[key] - 0.3 * _is_in(block, key), key.count(".")))
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
