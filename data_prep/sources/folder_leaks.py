"""Pictures that are both trained on and evaluated: on two lists, or copied to another name."""

import collections
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

_APART = ("val", "test")
_SHOWN = 5
_HEAD = 1 << 16  # bytes by which most files differ


def shared_ids(lists: Mapping[str, Sequence[str]]) -> list[str]:
  """A line on each list of training pictures that shares ids with 'val'.

  Training refuses such a pair of lists; 'train' and those that begin with 'labeled' are for it.
  """
  evaluated = lists.get("val", ())
  lines = []
  for name, members in lists.items():
    if _is_trained(name) and (common := _common(members, evaluated)):
      lines.append(
        f"{_count(common)} on the list {name!r} and on 'val': {_some(common)}; take them off one "
        "of the two (without a list 'train' all pictures that are not on 'val' are trained on)"
      )
  return lines


def say_leaks(
  lists: Mapping[str, Sequence[str]], paths: Mapping[str, str], say: Callable[[str], None]
) -> None:
  """Says which pictures of 'test' are trained on, and which evaluated ones have a copy that is.

  Args:
    lists: of ids.
    paths: id -> file; copies have the same bytes.
    say: is told.
  """
  trained = {id_ for name, ids in lists.items() if _is_trained(name) for id_ in ids}
  common = _common(lists.get("test", ()), trained)
  if common:
    say(
      f"NOTE: {_count(common)} on the list 'test' and trained on: {_some(common)}; scores on them "
      "say nothing of others; take them off one list"
    )
  for name in _APART:
    evaluated = set(lists.get(name, ())) - trained
    pairs = _copies(sorted(evaluated), sorted(trained), paths)
    if pairs:
      shown = ", ".join(f"{one} = {other}" for one, other in pairs[:_SHOWN])
      more = ", ..." if len(pairs) > _SHOWN else ""
      say(
        f"NOTE: {_count(pairs)} on the list {name!r}, and byte for byte under another name among "
        f"those that are trained on: {shown}{more}; scores on them say nothing of "
        "others; remove one of each pair, or keep both on one list (--group, --list)"
      )


def _is_trained(name: str) -> bool:
  return name == "train" or name.startswith("labeled")


def _common(first: Iterable[str], second: Iterable[str]) -> list[str]:
  return sorted(set(first) & set(second))


def _count(ids: Sequence[object]) -> str:
  return counted(len(ids), "picture is", "pictures are")


def _some(ids: Sequence[str]) -> str:
  return ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")


def _copies(
  evaluated: Sequence[str], trained: Sequence[str], paths: Mapping[str, str]
) -> list[tuple[str, str]]:
  """(path, path) of each evaluated picture and one that is trained on and has its bytes."""
  ones, others = ([paths[id_] for id_ in ids if id_ in paths] for ids in (evaluated, trained))
  for digest in (_size, _digest_of_head, _digest):  # few files are read, fewer of them to the end
    by_digest = collections.defaultdict(list)
    for path in others:
      by_digest[digest(path)].append(path)
    matched = {path: by_digest.get(digest(path), []) for path in ones}
    ones = [path for path in ones if matched[path]]
    others = sorted({path for path in ones for path in matched[path]})
  return [(path, matched[path][0]) for path in ones]


def _size(path: str) -> int:
  return os.stat(path).st_size


def _digest_of_head(path: str) -> bytes:
  return _digest(path, _HEAD)


def _digest(path: str, most: int = -1) -> bytes:
  try:
    with open(path, "rb") as file:
      if most >= 0:
        return hashlib.sha256(file.read(most)).digest()
      return hashlib.file_digest(file, "sha256").digest()
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error}); replace or remove it") from error
