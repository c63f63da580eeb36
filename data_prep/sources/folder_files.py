"""The files of own data, found in a folder by their ids: names without folder and suffix."""

import os
import pathlib
from collections.abc import Callable, Iterator

from semiseg_jax.errors import DataError


def find_files(
  folder: str,
  suffixes: tuple[str, ...],
  name_suffix: str,
  what: str,
  wrong: list[str],
  say: Callable[[str], None],
) -> dict[str, pathlib.Path]:
  """The files of a folder by id, in the order of the ids.

  Args:
    folder: searched with its subfolders.
    suffixes: of the files.
    name_suffix: what names have after the id.
    what: they are, for messages.
    wrong: gets a line on each id that two files have.
    say: is told of other files, which are left out.

  Raises:
    DataError: no such folder, or no such file in it.
  """
  if not os.path.isdir(folder):
    raise DataError(f"folder of {what} {folder} does not exist; correct the path")
  found, left_out = {}, []
  for path in sorted(_files(folder)):
    if path.suffix.lower() not in suffixes or not path.stem.endswith(name_suffix):
      left_out.append(path.name)
      continue
    id_ = path.stem.removesuffix(name_suffix)
    if id_ in found:
      wrong.append(
        f"id {id_!r} stands for {found[id_]} and for {path}; ids are file names without folder "
        f"and suffix and must be unique among {what}: rename or move one"
      )
    found.setdefault(id_, path)
  if left_out:
    say(
      f"NOTE: {len(left_out)} files in {folder} are left out as they are no {what} of kind "
      f"{'/'.join(suffixes)} with names in '{name_suffix}': {', '.join(left_out[:5])}"
    )
  if not found:
    raise DataError(
      f"no {what} in {folder}; correct the path (searched for {', '.join(suffixes)} "
      f"with names ending in '{name_suffix}')"
    )
  return dict(sorted(found.items()))


def _files(folder: str) -> Iterator[pathlib.Path]:
  seen = set()
  for place, folders, names in os.walk(folder, followlinks=True):
    if os.path.realpath(place) in seen:  # a link back to a folder above
      folders.clear()
      continue
    seen.add(os.path.realpath(place))
    folders[:] = [name for name in folders if not name.startswith(".")]
    yield from (pathlib.Path(place, name) for name in names if not name.startswith("."))
