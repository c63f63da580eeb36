"""Annotation files in the place of a folder of masks: found, and matched with their pictures."""

import collections
import functools
import os
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

from data_prep.annotations import reading
from data_prep.annotations.options import ShapeOptions
from data_prep.annotations.reading import Annotations
from data_prep.annotations.shapes import Annotated
from data_prep.sources import folder_files
from data_prep.sources.folder_pairs import LISTS, Folders
from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import LABEL_SUFFIXES, PICTURE_SUFFIXES
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
_SHOWN = 3  # missing pictures that a message names


def find_annotations(
  where: Folders, wrong: list[str], say: Callable[[str], None]
) -> Annotations | None:
  """Reads the annotation files at `where.labels`; None when masks are there.

  Args:
    where: the folders, of which the one of labels may be a file.
    wrong: gets a line on each broken file.
    say: is told of files that are left out.

  Raises:
    DataError: a file of no known kind; annotations of several kinds, or beside masks.
  """
  if where.labels is None:
    _say_unused(where, say)
    return None
  if where.label.length:
    return None
  if os.path.isfile(where.labels):
    found = reading.read_file(pathlib.Path(where.labels))
    return _said(found, where, say)
  files = sorted(picture_files.files_under(where.labels))
  masks = _masks(where, files)
  found = reading.read_folder(files, wrong)
  if found is None:
    if not masks and not picture_files.masks_by_name(files):
      lie_together = os.path.realpath(where.images) == os.path.realpath(where.labels)
      reading.refuse_others(files, None if lie_together else where.labels)
    return None
  if masks:
    raise DataError(
      f"{where.labels} holds {found.kind} and {counted(len(masks), 'file')} that may be masks, "
      "such as "
      f"{masks[0]}; give the folder or the file of one of them, or --label_suffix for the masks "
      "(such as .png)"
    )
  return _said(found, where, say)


def _say_unused(where: Folders, say: Callable[[str], None]) -> None:
  """A note on annotations that lie beside the pictures and are not asked for."""
  if os.path.isdir(where.images):
    file = reading.known_file(sorted(picture_files.files_under(where.images)))
    if file is not None:
      say(
        f"NOTE: {file} has annotations, which are not read; give --labels {where.images} for that"
      )


def _said(found: Annotations, where: Folders, say: Callable[[str], None]) -> Annotations:
  """The annotations, of which it is said what of them is left out."""
  for note in found.notes:
    say(f"NOTE: {note}")
  if found.left_out:
    say(
      f"NOTE: {counted(len(found.left_out), 'file')} in {where.labels} left out: no "
      f"{found.kind}: {', '.join(found.left_out[:5])}"
    )
  return found


def pair(
  annotated: Sequence[Annotated],
  pictures: Mapping[str, pathlib.Path],
  where: Folders,
  options: ShapeOptions,
  wrong: list[str],
  say: Callable[[str], None],
) -> dict[str, Annotated]:
  """The annotations of each picture: id -> its own.

  A picture is known by its file's name, and where names repeat by as many folders above it as it
  takes.  Appends to `wrong` annotations of no picture, of one of several, and of one twice.
  """
  names = _Names(where, pictures)
  found: dict[str, Annotated] = {}
  missing = []
  twice: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
  renamed = []
  for each in annotated:
    ids = names.find(each)
    if not ids and (ids := names.find_uploaded(each)):
      renamed.append(f"{each.picture} is {pictures[ids[0]].name}")
    if not ids:
      missing.append(each)
    elif len(ids) > 1:
      wrong.append(
        f"{each.where} annotates {each.picture}, which may be {pictures[ids[0]]} or "
        f"{pictures[ids[1]]}; write its folder into the annotations, or rename one"
      )
    elif ids[0] in found:
      places = found[ids[0]].where, each.where
      twice[places].append(
        f"{pictures[ids[0]]} is annotated twice, as {found[ids[0]].picture} in {places[0]} and as "
        f"{each.picture} in {places[1]}"
      )
    else:
      found[ids[0]] = each
  if renamed:
    say(
      f"NOTE: {counted(len(renamed), 'picture is', 'pictures are')} found without what Label "
      "Studio puts before their names: "
      f"{', '.join(renamed[:_SHOWN])}"
    )
  wrong += _of_both(twice)
  if missing and options.missing is None:
    wrong += [
      f"{each.where} annotates {each.picture}, which is no picture in {where.images}; add it, "
      "correct the path, or give --shapes_missing leave"
      for each in missing
    ]
  elif missing:
    shown = ", ".join(each.picture for each in missing[:_SHOWN])
    say(f"NOTE: {len(missing)} annotated pictures are missing and left out: {shown}")
  return {id_: found[id_] for id_ in sorted(found)}


def _of_both(twice: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
  """A line for every two files, with the first of the pictures that both annotate."""
  wrong = []
  for (first, second), lines in twice.items():
    more = f", as {len(lines) - 1} others are" if len(lines) > 1 else ""
    mend = "remove one" if first == second else "give one of the files as --labels, or remove one"
    wrong.append(f"{lines[0]}{more}; {mend}")
  return wrong


def split_lists(
  annotations: Annotations, pictures: Mapping[str, pathlib.Path], where: Folders
) -> dict[str, tuple[str, ...]]:
  """Lists of the pictures in files whose names or folders say 'train', 'val' or 'test'.

  Such as instances_train.json and instances_val.json.  None are made unless some files are for
  'val' or 'test', and some are not.
  """
  if annotations.kind not in reading.OF_MANY:
    return {}
  splits = {each.where: _split(each.where, where.labels) for each in annotations.pictures}
  apart = set(splits.values()) & {"val", "test"}
  if not apart or apart == set(splits.values()):
    return {}
  names, lists = _Names(where, pictures), collections.defaultdict(set)
  for each in annotations.pictures:
    if splits[each.where] is not None:
      lists[splits[each.where]].update(names.find(each))
  return {name: tuple(sorted(ids)) for name, ids in lists.items()}


def _split(file: str, root: str) -> str | None:
  """The list that a file's name names, or its folders below `root`; None for none or several."""
  path = pathlib.PurePath(file)
  folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
  for words in (re.split(r"[^a-z]+", path.stem.lower()), [part.lower() for part in folders]):
    found = {LISTS[word] for word in words if word in LISTS}
    if found:
      return found.pop() if len(found) == 1 else None
  return None


def _masks(where: Folders, files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """The files that may be masks: those of such a kind that do not lie among the pictures."""
  images, labels = os.path.realpath(where.images), os.path.realpath(where.labels)
  if images == labels:
    return []
  kept = [path for path in files if path.suffix.lower() in LABEL_SUFFIXES]
  if f"{labels}{os.sep}".startswith(images + os.sep):
    return kept
  real = functools.cache(os.path.realpath)  # of folders: pictures may be links
  return [path for path in kept if not f"{real(path.parent)}{os.sep}".startswith(images + os.sep)]


class _Names:
  """Finds the pictures that annotations may mean."""

  def __init__(self, where: Folders, pictures: Mapping[str, pathlib.Path]):
    self._by_name = collections.defaultdict(list)
    self._by_stem = collections.defaultdict(list)
    self._places = {}
    for id_, path in pictures.items():
      self._by_name[picture_files.one_form(path.name)].append(id_)
      self._by_stem[picture_files.one_form(path.stem)].append(id_)
      self._places[id_] = folder_files.found_file(where.images, path, id_).place

  def find(self, annotated: Annotated) -> list[str]:
    """The ids of the pictures that fit best: one, several, or none."""
    parts = _parts(annotated.picture)
    found = self._find(annotated, parts)
    if annotated.alias:
      found += self._find(annotated, [annotated.alias])
    return sorted(set(found))

  def find_uploaded(self, annotated: Annotated) -> list[str]:
    """As `find`, without the eight digits and letters that Label Studio puts before names."""
    *folders, name = _parts(annotated.picture)
    shorter = _UPLOADED.sub("", name)
    return self._find(annotated, [*folders, shorter]) if shorter != name else []

  def _find(self, annotated: Annotated, parts: list[str]) -> list[str]:
    *folders, name = parts
    stem, dot, suffix = name.rpartition(".")
    is_file = f"{dot}{suffix}".lower() in PICTURE_SUFFIXES
    ids = self._by_name.get(name) or self._by_stem.get(stem if is_file else name, [])
    if len(ids) < 2:
      return list(ids)
    stated = _place(folders)
    above = _place([*_parts(os.path.abspath(annotated.where))[:-1], *folders])
    ranks = {i: (_equal_ends(self._places[i], above), self._places[i] == stated) for i in ids}
    return [id_ for id_ in ids if ranks[id_] == max(ranks.values())]


def _parts(name: str) -> list[str]:
  """Folders and name of a path, as Windows or others write it, or of an address."""
  if "://" in name:
    name = urllib.parse.unquote(urllib.parse.urlsplit(name).path)
  parts = picture_files.one_form(name).replace("\\", "/").split("/")
  return [part for part in parts if part not in ("", ".", "..")] or [""]


def _place(folders: Sequence[str]) -> tuple[str, ...]:
  return folder_files.found_file("", pathlib.Path(*folders, "x"), "x").place


def _equal_ends(first: Sequence[str], second: Sequence[str]) -> int:
  """How many of the last folders of both are equal."""
  count = 0
  for one, other in zip(reversed(first), reversed(second)):
    if one != other:
      break
    count += 1
  return count
