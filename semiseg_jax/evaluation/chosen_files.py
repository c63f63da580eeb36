"""Which pictures of a user are labeled: those of a folder, or those that a list names."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from semiseg_jax.data import picture_files, text_files
from semiseg_jax.data.pictures import PICTURE_SUFFIXES
from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.wording import counted


class Chosen(NamedTuple):
  """Files, and the folder below which their names count."""

  root: pathlib.Path
  files: list[pathlib.Path]

  def name(self, file: pathlib.Path) -> pathlib.Path:
    """The name of a picture's results, with its folders and without its suffix."""
    return file.relative_to(self.root).with_suffix("")


def choose(images: str | None, listed: str | None, out: pathlib.Path) -> Chosen:
  """Returns the pictures of the folder `images`, or those of a list.

  Args:
    images: the folder; sub-folders count, hidden files and the masks of others do not.
    listed: a text file, see `of_list`.
    out: where results will lie.

  Raises:
    DataError: neither is given, no pictures, some that are missing (all of them are named), two
      that would get the same name, or `out` among the pictures of the folder.
  """
  if listed is not None:
    return of_list(listed, images)
  if images is None:
    raise OptionError(
      "no pictures are given: name their folder with --images, or a file with --list"
    )
  return Chosen(pathlib.Path(images), _under(pathlib.Path(images), out))


def of_list(listed: str, images: str | None) -> Chosen:
  """Returns the pictures that a text file names, one a line, in its order.

  A line is a path, absolute or relative to `images` (by default the folder of the list), with its
  suffix or, as in lists of ids, without.  Of several columns the first one counts.

  Raises:
    DataError: as `choose`.
  """
  path = pathlib.Path(listed)
  try:
    text = text_files.read_text(path)
  except ValueError as error:
    raise DataError(f"list {path}: {error}") from error
  base = path.parent if images is None else pathlib.Path(images)
  if not base.is_dir():
    raise DataError(f"{base} is not a folder; give the folder to which the lines of {path} belong")
  found_of: dict[pathlib.Path, int] = {}
  wrong = []
  for number, line in enumerate(map(str.strip, text.splitlines()), 1):
    found = _named(base, line) if line else []
    if line and len(found) != 1:
      several = f"could be {' or '.join(file.name for file in found)}; write its suffix"
      wrong.append(f"line {number}: {line!r} {several if found else 'is not there'}")
    if len(found) == 1:
      found_of[found[0]] = found_of.get(found[0], 0) + 1
  if wrong:
    hint = " (lines belong to the folder of the list; --images DIR names another)"
    where = f"relative to {base}{'' if images else hint}"
    missing = counted(len(wrong), f"picture of list {path} is", f"pictures of list {path} are")
    raise DataError.of_all(f"{missing} missing, {where}:", wrong)
  files, again = list(found_of), sum(found_of.values()) - len(found_of)
  if not files:
    raise DataError(f"list {path} names no pictures; write one path a line")
  if again:
    print(
      f"NOTE: {counted(again, 'line')} of {path} for pictures named before; each is labeled once"
    )
  _check_names(files)
  return Chosen(_root(files, base), files)


def _named(base: pathlib.Path, line: str) -> list[pathlib.Path]:
  """The file that a line names; none, or several that differ in their suffix."""
  columns = [line, *(line.split(separator)[0].strip() for separator in ("\t", ",", ";", None))]
  for name in dict.fromkeys(column for column in columns if column):
    if (base / name).is_file():
      return [base / name]
    found = [base / f"{name}{suffix}" for suffix in PICTURE_SUFFIXES]
    found = [file for file in found if file.is_file()]
    if found:
      return found
  return []


def _root(files: Sequence[pathlib.Path], base: pathlib.Path) -> pathlib.Path:
  """The folder of all of them: `base`, or the nearest one that holds files from elsewhere, too."""
  if all(".." not in file.parts and file.is_relative_to(base) for file in files):
    return base
  files[:] = [pathlib.Path(os.path.abspath(file)) for file in files]
  root = pathlib.Path(os.path.commonpath([file.parent for file in files]))
  print(f"NOTE: some pictures of the list lie outside of {base}; results are named from {root} on")
  return root


def _under(root: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
  if root.is_file():
    raise DataError(f"{root} is not a folder; give the folder of the pictures, or a list as --list")
  if pathlib.Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
    raise DataError(f"{out} lies in {root}: results would be taken for pictures; choose another")
  files = pictures_under(root)
  _check_names(files)
  return files


def pictures_under(root: pathlib.Path) -> list[pathlib.Path]:
  """Returns the pictures in a folder and those below it, without the masks of others, sorted.

  Raises:
    DataError: no folder, or no pictures in it.
  """
  if not root.is_dir():
    raise DataError(f"{root} is not a folder; give the folder of the pictures")
  there = picture_files.files_under(root)
  files = sorted(p for p in there if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
  if not files:
    raise DataError(f"no pictures under {root}; looked for {', '.join(PICTURE_SUFFIXES)}")
  masks = picture_files.masks_by_name(files)
  if masks:
    first, other = next(iter(masks.items()))
    print(
      "NOTE: "
      f"{counted(len(masks), 'file has the name of a mask', 'files have the names of masks')}, "
      f"left out, the first is {first} "
      f"beside {other}; put those that are pictures into a folder of their own"
    )
    files = [file for file in files if file not in masks]
  return files


def _check_names(files: Sequence[pathlib.Path]) -> None:
  names: dict[pathlib.Path, pathlib.Path] = {}
  for file in files:
    other = names.setdefault(file.with_suffix(""), file)
    if other != file:
      raise DataError(f"{other} and {file} would get the same name; rename one of them")
