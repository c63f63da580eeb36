"""Pictures that look like masks: few flat colors, in a folder beside others that do not."""

import collections
import concurrent.futures
import itertools
import os
import pathlib
from collections.abc import Mapping

from PIL import Image

from data_prep.sources.folder_files import Found

_COLORS = 32  # at most, of a mask
_FOLDERS, _FILES = 32, 8  # that are looked at, and in each of them
_READERS = 8
_LOSSY = (".jpg", ".jpeg")


def masks_among(pictures: Mapping[str, Found]) -> list[str]:
  """A line on each folder all of whose pictures look like masks, if those of another do not.

  Only some pictures of some folders are looked at.
  """
  folders: dict[pathlib.Path, list[pathlib.Path]] = collections.defaultdict(list)
  for file in pictures.values():
    folders[file.path.parent].append(file.path)
  if len(folders) < 2:
    return []
  with concurrent.futures.ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
    looks = {
      folder: list(pool.map(_looks_like_mask, paths[:: -(-len(paths) // _FILES)]))
      for folder, paths in itertools.islice(folders.items(), _FOLDERS)
    }
  if all(all(found) for found in looks.values()):
    return []
  return [
    f"{len(folders[folder])} pictures in {folder} look like masks, with {_COLORS} flat colors or "
    f"less, and others do not; if they are labels, give --labels {folder}, or move them away; if "
    "they are pictures, give --all_pictures"
    for folder, found in looks.items()
    if all(found) and len(found) > 1
  ]


def _looks_like_mask(path: pathlib.Path) -> bool:
  if path.suffix.lower() in _LOSSY:
    return False
  try:
    with Image.open(path) as picture:
      return picture.convert("RGB").getcolors(_COLORS) is not None
  except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
    return False  # reading the picture will tell
