"""Pictures that look like masks: few flat colors, beside others that do not.

They are all those of a folder, or those whose names go on alike after the names of others
(a_2nd.png, b_2nd.png beside a.jpg, b.jpg), or those of one name (a/ids.png, b/ids.png).
"""

import collections
import concurrent.futures
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TypeVar

from PIL import Image

from data_prep.sources.folder_files import Found
from semiseg_jax.wording import counted

T = TypeVar("T")
_COLORS = 32  # at most, of a mask
_GROUPS, _FILES = 32, 8  # groups that are looked at, and files of each
_READERS = 8
_LOSSY = (".jpg", ".jpeg")


def masks_among(pictures: Mapping[str, Found]) -> list[str]:
  """A line on each group all of whose pictures look like masks, if those of another do not.

  Only some pictures of some groups are looked at.
  """
  paths = [file.path for file in pictures.values()]
  look = functools.cache(_looks_like_mask)
  groups = _groups(paths)
  wrong = [_line(*group, len(groups[group])) for group in _flat(groups, look)]
  if wrong:
    return wrong
  named = _of_one_name(paths)
  return [
    f"{counted(len(named[name]), 'picture looks', 'pictures look')} like masks, called {name!r}, "
    f"the first is {named[name][0]}, "
    f"with {_COLORS} flat colors or less, and others do not; if they are labels, give --labels the "
    f"folder of all, --label_suffix={name} and as --image_suffix the name of the pictures, or move "
    "them away; if they are pictures, give --all_pictures"
    for name in _flat(named, look)
  ]


def say_named_after_others(pictures: Mapping[str, Found], say: Callable[[str], None]) -> None:
  """Says which pictures are named after others with a word behind, such as a_vis.jpg beside a.jpg.

  A line on each word that two and more have.
  """
  for (folder, rest), paths in _groups([file.path for file in pictures.values()]).items():
    if rest and len(paths) > 1:
      say(
        f"NOTE: {len(paths)} pictures in {folder} are named after others with {rest!r} behind, "
        f"such as {paths[0].name}, and are pictures like these; if they show labels or results, "
        "move them away; if they are copies, keep each with its original in a list (--group)"
      )


def _flat(groups: Mapping[T, list[pathlib.Path]], look: Callable[[pathlib.Path], bool]) -> list[T]:
  """The groups of two and more pictures that all look like masks, if there are others."""
  if len(groups) < 2:
    return []
  with concurrent.futures.ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
    looks = {
      group: list(pool.map(look, paths[:: -(-len(paths) // _FILES)]))
      for group, paths in itertools.islice(groups.items(), _GROUPS)
    }
  if all(all(found) for found in looks.values()):
    return []
  return [group for group, found in looks.items() if all(found) and len(found) > 1]


def _of_one_name(paths: Iterable[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
  """Name -> the pictures, of the names that are words and occur in several folders."""
  named: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
  for path in paths:
    named[path.stem].append(path)
  return {name: found for name, found in named.items() if len(found) > 1 and name.isalpha()}


def _groups(paths: Iterable[pathlib.Path]) -> dict[tuple[pathlib.Path, str], list[pathlib.Path]]:
  """(folder, what names have after that of another picture there, or '') -> the pictures."""
  stems: dict[pathlib.Path, set[str]] = collections.defaultdict(set)
  groups: dict[tuple[pathlib.Path, str], list[pathlib.Path]] = collections.defaultdict(list)
  paths = list(paths)
  for path in paths:
    stems[path.parent].add(path.stem)
  for path in paths:
    groups[path.parent, _after_another(path.stem, stems[path.parent])].append(path)
  return groups


def _after_another(stem: str, others: Set[str]) -> str:
  """What follows the longest name that this one goes on after a separator: '_2nd' of a_2nd."""
  ends = [at for at in range(len(stem) - 1, 0, -1) if stem[at] in "_-. " and stem[:at] in others]
  rest = stem[ends[0] :] if ends else ""
  return rest if any(letter.isalpha() for letter in rest) else ""


def _line(folder: pathlib.Path, rest: str, count: int) -> str:
  named = f" with {rest!r} after the name of another" if rest else ""
  option = f" --label_suffix={rest}" if rest else ""
  return (
    f"{counted(count, f'picture in {folder}{named} looks', f'pictures in {folder}{named} look')} "
    f"like masks, with {_COLORS} flat colors or less, and "
    f"others do not; if they are labels, give --labels {folder}{option}, or move them away; if "
    "they are pictures, give --all_pictures"
  )


def _looks_like_mask(path: pathlib.Path) -> bool:
  if path.suffix.lower() in _LOSSY:
    return False
  try:
    with Image.open(path) as picture:
      return picture.convert("RGB").getcolors(_COLORS) is not None
  except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
    return False  # reading the picture will tell
