"""Annotation files in the place of a folder of masks: found, and matched with their pictures."""

import collections
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from data_prep.annotations import reading
from data_prep.annotations.options import ShapeOptions
from data_prep.annotations.reading import Annotations
from data_prep.annotations.shapes import Annotated
from data_prep.sources import folder_files
from data_prep.sources.folder_pairs import Folders
from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import LABEL_SUFFIXES, PICTURE_SUFFIXES
from semiseg_jax.errors import DataError

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
  if where.labels is None or where.label.length:
    return None
  if os.path.isfile(where.labels):
    return reading.read_file(pathlib.Path(where.labels))
  files = sorted(picture_files.files_under(where.labels))
  masks = _masks(where, files)
  found = reading.read_folder(files, wrong)
  if found is None:
    if not masks:
      reading.refuse_boxes(files)
    return None
  if masks:
    raise DataError(
      f"{where.labels} holds {found.kind} and {len(masks)} files that may be masks, such as "
      f"{masks[0]}; give the folder or the file of one of them, or --label_suffix for the masks "
      "(such as .png)"
    )
  if found.left_out:
    say(
      f"NOTE: {len(found.left_out)} files in {where.labels} are left out as they are no "
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
  for each in annotated:
    ids = names.find(each)
    if not ids:
      missing.append(each)
    elif len(ids) > 1:
      wrong.append(
        f"{each.where} annotates {each.picture}, which may be {pictures[ids[0]]} or "
        f"{pictures[ids[1]]}; write its folder into the annotations, or rename one"
      )
    elif ids[0] in found:
      wrong.append(
        f"{pictures[ids[0]]} is annotated twice, as {found[ids[0]].picture} in "
        f"{found[ids[0]].where} and as {each.picture} in {each.where}; remove one"
      )
    else:
      found[ids[0]] = each
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
  """Folders and name of a path, as Windows or others write it."""
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
