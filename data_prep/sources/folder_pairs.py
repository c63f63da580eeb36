"""Pictures and their labels, wherever people keep them: which file is which, and whose.

A label is never a picture: what is found as a label is taken out of the pictures, and pictures
whose names or folders say that they are masks are an error until somebody says what they are.
"""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from data_prep.annotations.shapes import Annotated
from data_prep.sources import folder_files as files
from data_prep.sources import mask_looks
from data_prep.sources.folder_files import Folders, Found, Mask, Naming
from data_prep.sources.folder_owners import Owners, naming_option, owner_of, stem_of
from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import LABEL_SUFFIXES, PICTURE_SUFFIXES
from semiseg_jax.errors import SHOWN, DataError
from semiseg_jax.wording import counted

# What folders of pictures are called -> the list that they make.
LISTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
LISTS |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
# Of two files of one name in one folder, the one of the later kind is the label.
_RANKS = {".jpg": 0, ".jpeg": 0, ".webp": 0, ".npy": 2}


@dataclasses.dataclass(frozen=True)
class Pairs:
  """What was found.

  Attributes:
    pictures: id -> file, in the order of the ids.
    labels: id -> its masks, one unless several were allowed.
    lists: 'train', 'val', 'test' -> ids, where folders have these names.
    shapes: id -> what annotation files draw, whose path then stands in `labels`.
  """

  pictures: dict[str, pathlib.Path]
  labels: dict[str, tuple[Mask, ...]]
  lists: dict[str, tuple[str, ...]]
  shapes: dict[str, Annotated] = dataclasses.field(default_factory=dict)


def find_pairs(where: Folders, wrong: list[str], say: Callable[[str], None]) -> Pairs:
  """Finds the pictures and their labels.

  Args:
    where: the folders.
    wrong: gets a line on each file that belongs to nothing, or twice to something.
    say: is told of files that are left out.

  Raises:
    DataError: a folder does not exist or has no such file, or its files cannot be told apart.
  """
  files.check_folder(where.images, "pictures")
  image_files, label_files = sorted(picture_files.files_under(where.images)), []
  if where.labels is not None:
    files.check_folder(where.labels, "labels")
    label_files = sorted(picture_files.files_under(where.labels))
    image_files, label_files = _part(where, image_files, label_files, say)
  found = _pictures(where, image_files, wrong, say)
  labels: dict[str, tuple[Mask, ...]] = {}
  if where.labels is not None:
    labels = _labels(where, label_files, found, wrong, say)
  lists: dict[str, list[str]] = {}
  for id_, file in found.items():
    name = LISTS.get(file.place[0].lower()) if file.place else None
    if name:
      lists.setdefault(name, []).append(id_)
  return Pairs(
    {id_: file.path for id_, file in found.items()},
    labels,
    {name: tuple(ids) for name, ids in lists.items()},
  )


def _part(
  where: Folders,
  image_files: list[pathlib.Path],
  label_files: list[pathlib.Path],
  say: Callable[[str], None],
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Takes labels out of the pictures and pictures out of the labels."""
  images, labels = os.path.realpath(where.images), os.path.realpath(where.labels)
  if images == labels:
    is_label = _by_names(where, image_files)
    kept = [path for path in image_files if not is_label(path)]
    label_files = [path for path in label_files if is_label(path)]
  else:
    kept, real = image_files, functools.cache(os.path.realpath)
    if not _is_under(images, labels):
      kept = [path for path in image_files if not _is_under(real(path.parent), labels)]
    if not _is_under(labels, images):
      label_files = [path for path in label_files if not _is_under(real(path.parent), images)]
  if len(kept) < len(image_files):
    say(
      f"{counted(len(image_files) - len(kept), 'file')} in {where.images} that are labels or lie "
      "beside them: no pictures"
    )
  return kept, label_files


def _is_under(path: str, folder: str) -> bool:
  return f"{path}{os.sep}".startswith(folder.rstrip(os.sep) + os.sep)


def _by_names(where: Folders, paths: list[pathlib.Path]) -> Callable[[pathlib.Path], bool]:
  """How labels are known in a folder that they share with the pictures."""
  if where.label.length:
    stems = {stem_of(path) for path in paths if where.label.stem(path) is None}
    return lambda path: _is_named_label(where, path, stems)
  if where.image.length:
    return lambda path: where.image.stem(path) is None
  if any(_in_mask_folder(where.images, path) for path in paths):
    return lambda path: _in_mask_folder(where.images, path)
  ranks = _pair_ranks(paths)
  if not ranks:
    raise DataError(
      f"pictures and labels are both in {where.images} and cannot be told apart; give "
      f"--label_suffix ({_suffixes(paths)}) or --label_prefix{_folders(where.images, paths)}"
      f"{_proposal(paths)}"
    )
  return lambda path: _rank(path) in ranks


def _is_named_label(where: Folders, path: pathlib.Path, stems: set[str]) -> bool:
  if where.label.stem(path) is not None:
    return where.image.stem(path) is None or where.label.length >= where.image.length
  return owner_of(path, where.label, stems) is not None


def _in_mask_folder(root: str, path: pathlib.Path) -> bool:
  return any(map(picture_files.is_mask_folder, path.relative_to(root).parts[:-1]))


def _rank(path: pathlib.Path) -> int | None:
  suffix = path.suffix.lower()
  return _RANKS.get(suffix, 1) if suffix in (*PICTURE_SUFFIXES, *LABEL_SUFFIXES) else None


def _pair_ranks(paths: Iterable[pathlib.Path]) -> set[int]:
  """The ranks of labels: those of the later of two files of one name; empty if it is not clear."""
  groups: dict[pathlib.Path, list[int]] = collections.defaultdict(list)
  for path in paths:
    if (rank := _rank(path)) is not None:
      groups[path.with_suffix("")].append(rank)
  pairs = [sorted(ranks) for ranks in groups.values() if len(ranks) == 2]
  firsts, lasts = {a for a, _ in pairs}, {b for _, b in pairs}
  return set() if firsts & lasts else lasts


def _suffixes(paths: Iterable[pathlib.Path]) -> str:
  """Examples of what may tell labels apart by the ends of their names."""
  kinds = sorted({path.suffix.lower() for path in paths if path.suffix.lower() in LABEL_SUFFIXES})
  return f"such as _mask, or {' or '.join(kinds)}" if len(kinds) > 1 else "such as _mask"


def _folders(root: str, paths: Iterable[pathlib.Path]) -> str:
  """That labels may be those of a sub-folder, if there are any."""
  below = {path.relative_to(root).parts[0] for path in paths if path.parent != pathlib.Path(root)}
  if not below:
    return ""
  return f", or the sub-folder of the labels: --labels {pathlib.Path(root, min(below))}"


def _proposal(paths: Sequence[pathlib.Path]) -> str:
  named = picture_files.masks_by_name(paths)
  if not named:
    return ""
  file, other = next(iter(named.items()))
  return f"; {naming_option(file.stem, other.stem)} would fit {file.name} and {other.name}"


def _pictures(
  where: Folders, paths: list[pathlib.Path], wrong: list[str], say: Callable[[str], None]
) -> dict[str, Found]:
  found, left_out = [], []
  for path in paths:
    stem = where.image.stem(path) if path.suffix.lower() in PICTURE_SUFFIXES else None
    file = None if stem is None else files.found_file(where.images, path, stem)
    if file is None:
      left_out.append(path.name)
    else:
      found.append(file)
  files.say_left_out(left_out, where.images, "pictures", PICTURE_SUFFIXES, where.image, say)
  if not found:
    raise files.nothing_found(where.images, "pictures", PICTURE_SUFFIXES, where.image, left_out)
  by_name = [] if where.all_pictures else _masks_among(where.images, [f.path for f in found])
  wrong += by_name
  pictures = files.by_id(found, "pictures", wrong)
  if not (where.all_pictures or by_name):
    looks = mask_looks.masks_among(pictures)
    wrong += looks
    if not looks:
      mask_looks.say_named_after_others(pictures, say)
  return pictures


def _masks_among(root: str, paths: list[pathlib.Path]) -> list[str]:
  named = picture_files.masks_by_name(paths)
  placed = [path for path in paths if path not in named and _in_mask_folder(root, path)]
  lines = []
  if named:
    file, other = next(iter(named.items()))
    lines.append(
      f"{counted(len(named), 'picture')} in {root} with names of masks, the first is {file}, "
      "beside "
      f"{other}; if they are labels, give --labels {root} {naming_option(file.stem, other.stem)}, "
      "or move them away; if they are pictures, give --all_pictures"
    )
  if placed:
    lines.append(
      f"{counted(len(placed), 'picture')} in {root} in a folder of masks, the first is "
      f"{placed[0]}; if "
      f"they are labels, give --labels {placed[0].parent}, or move them away; if they are "
      "pictures, give --all_pictures"
    )
  return lines


def _labels(
  where: Folders,
  paths: list[pathlib.Path],
  pictures: Mapping[str, Found],
  wrong: list[str],
  say: Callable[[str], None],
) -> dict[str, tuple[Mask, ...]]:
  """The masks of each picture; appends to `wrong` those of no picture, and all but one."""
  owners = Owners(where, pictures)
  masks: dict[str, list[Mask]] = {}
  alone, left_out = [], []
  for path in paths:
    suffix = path.suffix.lower()
    id_, mask = (
      owners.find(path) if suffix in (*LABEL_SUFFIXES, *PICTURE_SUFFIXES) else (None, None)
    )
    if id_ is not None:
      masks.setdefault(id_, []).append(mask)
    elif suffix in LABEL_SUFFIXES and where.label.stem(path) is not None:
      alone.append(path)
    else:
      left_out.append(path.name)
  for id_, several in masks.items():
    exact = [m for m in several if m.path.suffix.lower() in LABEL_SUFFIXES]
    if exact and len(exact) < len(several):  # a JPEG beside a mask shows it
      left_out += [m.path.name for m in several if m not in exact]
      masks[id_] = exact
  wrong += [owners.alone(path, masks, propose=number < SHOWN) for number, path in enumerate(alone)]
  files.say_left_out(left_out, where.labels, "labels", LABEL_SUFFIXES, where.label, say)
  if not masks and not alone:
    other = _in_other_letters(where.labels, where.label)
    raise files.nothing_found(
      where.labels, "labels", LABEL_SUFFIXES, where.label, other or left_out
    )
  if not where.several:
    wrong += [_several(id_, found) for id_, found in masks.items() if _is_several(found)]
  return {id_: tuple(masks[id_]) for id_ in sorted(masks)}


def _in_other_letters(folder: str, naming: Naming) -> list[str]:
  """The files whose names have prefix and suffix in other letters, small or capital."""
  prefix, suffix = naming.prefix.lower(), naming.inner_suffix.lower()
  names = sorted(path.name for path in picture_files.files_under(folder))
  stems = {name: pathlib.PurePath(name).stem.lower() for name in names}
  return [name for name in names if stems[name].startswith(prefix) and stems[name].endswith(suffix)]


def _is_several(masks: list[Mask]) -> bool:
  return len(masks) > 1 or masks[0].is_part


def _several(id_: str, masks: list[Mask]) -> str:
  shown = ", ".join(str(mask.path) for mask in masks[:3])
  more = f" and {len(masks) - 3} more" if len(masks) > 3 else ""
  folders = sorted({str(mask.path.parent) for mask in masks})
  one = f", give one of their folders (--labels {folders[0]})" if len(folders) > 1 else ""
  return (
    f"picture {id_!r} has several masks or a numbered one: {shown}{more}; join them with "
    f"--merge_masks (their values are classes) or --class_masks (their names are){one}, or remove "
    "all but one"
  )
