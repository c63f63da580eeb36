"""The files of own data: found in a folder, and the ids that their names stand for."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence

from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import LABEL_SUFFIXES, PICTURE_SUFFIXES
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

# Folders that say what lies in them, not which part of the data.
_LAYOUT = re.compile(
  r"images?|imgs?|jpegimages|pictures?|photos?|rgb|leftimg8bit|inputs?", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Naming:
  """What file names have before and after the id; `suffix` may end in that of the file."""

  prefix: str = ""
  suffix: str = ""

  def stem(self, path: pathlib.Path) -> str | None:
    """The name without all of that, None when it has not got it; may be empty."""
    name = picture_files.one_form(path.stem)
    prefix, suffix = map(picture_files.one_form, (self.prefix, self.inner_suffix))
    if not self.has_end(path):
      return None
    end = len(name) - len(suffix)
    if end < len(prefix) or not (name.startswith(prefix) and name.endswith(suffix)):
      return None
    return name[len(prefix) : end]

  def has_end(self, path: pathlib.Path) -> bool:
    """Whether the file's suffix is the wanted one."""
    return self._end in ("", path.suffix.lower())

  @property
  def inner_suffix(self) -> str:
    """The suffix without that of the file."""
    return self.suffix[: len(self.suffix) - len(self._end)]

  @property
  def _end(self) -> str:
    return next((end for end in _FILE_SUFFIXES if self.suffix.lower().endswith(end)), "")

  @property
  def length(self) -> int:
    """How much it asks of a name."""
    return len(self.prefix) + len(self.suffix)

  def __str__(self) -> str:
    return f"'{self.prefix}ID{self.suffix}'"


@dataclasses.dataclass(frozen=True)
class Folders:
  """Where pictures and labels are, and how they are named.

  Attributes:
    images, labels: folders, searched with their sub-folders; labels None when there are none.
    image, label: the names of their files.
    several: a picture may have several masks.
    all_pictures: files that look like masks by their names are pictures.
  """

  images: str
  labels: str | None
  image: Naming = Naming()
  label: Naming = Naming()
  several: bool = False
  all_pictures: bool = False


@dataclasses.dataclass(frozen=True)
class Mask:
  """A label file.

  Attributes:
    path: its path.
    about: what its name or folders say besides the id, such as '_car_2'.
    is_part: whether its name says that the picture has others.
  """

  path: pathlib.Path
  about: str
  is_part: bool = False


_FILE_SUFFIXES = tuple(dict.fromkeys((*PICTURE_SUFFIXES, *LABEL_SUFFIXES)))


@dataclasses.dataclass(frozen=True)
class Found:
  """A file.

  Attributes:
    path: its path.
    place: the folders above it, below the searched one, without those of a layout.
    stem: the name without prefix, suffix and file suffix.
  """

  path: pathlib.Path
  place: tuple[str, ...]
  stem: str

  @property
  def key(self) -> str:
    """Place and stem, which tell equal names in several folders apart."""
    return "/".join((*self.place, self.stem))


def found_file(root: str, path: pathlib.Path, stem: str) -> Found:
  """The file `path` under `root`; one without a stem has the name of its folder."""
  parts = (picture_files.one_form(part) for part in path.relative_to(root).parts[:-1])
  place = tuple(p for p in parts if not (_LAYOUT.fullmatch(p) or picture_files.is_mask_folder(p)))
  if not stem and place:
    return Found(path, place[:-1], place[-1])
  return Found(path, place, stem or picture_files.one_form(path.stem))


def check_folder(folder: str, what: str) -> None:
  """DataError when there is no such folder."""
  if os.path.isfile(folder):
    raise DataError(f"{folder} is a file, not a folder of {what}; unpack it, or give its folder")
  if not os.path.isdir(folder):
    raise DataError(f"folder of {what} {folder} does not exist; correct the path")


def by_id(files: Iterable[Found], what: str, wrong: list[str]) -> dict[str, Found]:
  """The files by id, in the order of the ids: their names, or with folders where names repeat.

  Args:
    files: in order.
    what: they are, for messages.
    wrong: gets a line on each id that two files have.
  """
  files = list(files)
  repeated = len({file.stem for file in files}) < len({file.key for file in files})
  found: dict[str, Found] = {}
  for file in files:
    id_ = file.key if repeated else file.stem
    if id_ in found:
      wrong.append(
        f"id {id_!r} stands for {found[id_].path} and for {file.path}; ids are file names without "
        f"suffix, with their folders where names repeat, and must be unique among {what}: rename "
        "or move one"
      )
    found.setdefault(id_, file)
  return dict(sorted(found.items()))


def say_left_out(
  names: Sequence[str],
  folder: str,
  what: str,
  suffixes: Sequence[str],
  naming: Naming,
  say: Callable[[str], None],
) -> None:
  """Says which files of a folder are not used."""
  if names:
    say(
      f"NOTE: {counted(len(names), 'file')} in {folder} left out: no {what} of kind "
      f"{'/'.join(suffixes)} with names as {naming}: {', '.join(names[:5])}"
    )


def nothing_found(
  folder: str, what: str, suffixes: Sequence[str], naming: Naming, others: Sequence[str] = ()
) -> DataError:
  """The error of a folder without the wanted files, though maybe with `others`."""
  there = f"; the first other file there is {others[0]!r}" if others else ""
  return DataError(
    f"no {what} in {folder}; correct the path (searched for {', '.join(suffixes)} "
    f"with names as {naming}{there})"
  )


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
  check_folder(folder, what)
  naming, found, left_out = Naming(suffix=name_suffix), [], []
  for path in sorted(picture_files.files_under(folder)):
    stem = naming.stem(path) if path.suffix.lower() in suffixes else None
    if stem is None:
      left_out.append(path.name)
    else:
      found.append(found_file(folder, path, stem))
  say_left_out(left_out, folder, what, suffixes, naming, say)
  if not found:
    raise nothing_found(folder, what, suffixes, naming, left_out)
  return {id_: file.path for id_, file in by_id(found, what, wrong).items()}
