"""Annotation files of any kind, known by their content."""

import collections
import dataclasses
import json
import os
import pathlib
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from data_prep.annotations import (
  coco,
  cvat,
  datumaro,
  foreign,
  labelme,
  objects_xml,
  supervisely,
  via,
  yolo,
)
from data_prep.annotations.shapes import Annotated
from semiseg_jax.data import text_files
from semiseg_jax.data.pictures import PICTURE_SUFFIXES
from semiseg_jax.errors import DataError

SUFFIXES = (".json", ".xml", ".txt")
ACCEPTED = (
  'COCO JSON, labelme JSON, LabelMe XML, "CVAT for images" XML, Supervisely JSON, Datumaro JSON, '
  "VIA JSON, polygons of YOLO"
)
VOC = "PASCAL VOC XML"
_FORMATS = (coco, labelme, cvat, supervisely, datumaro, via, objects_xml, yolo)
OF_MANY = frozenset((coco.KIND, cvat.KIND, datumaro.KIND, via.KIND))  # pictures in a file
_TRIED = 8  # files of a folder that tell whether it has annotations


@dataclasses.dataclass(frozen=True)
class Annotations:
  """What was read.

  Attributes:
    kind: the kind of the files.
    pictures: all that are annotated, in the order of the files.
    left_out: the names of other files.
    notes: what to say of files that are left out although they are annotations.
  """

  kind: str
  pictures: tuple[Annotated, ...]
  left_out: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()


def read_file(path: pathlib.Path) -> Annotations:
  """Reads a file; DataError when it is of no known kind, or broken."""
  content = _parse(path)
  kind = _kind(content)
  if kind is None:
    raise _unknown(path, content)
  pictures = _read(content, kind, path)
  return Annotations(kind, tuple(pictures), notes=_doubts(kind, pictures))


def read_folder(paths: Sequence[pathlib.Path], wrong: list[str]) -> Annotations | None:
  """Reads the annotation files among those of a folder.

  Args:
    paths: all files of the folder.
    wrong: gets a line on each broken file.

  Returns:
    None when there are none among the first files that might be some.

  Raises:
    DataError: files of several kinds.
  """
  if known_file(paths) is None:
    return None
  paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
  files, broken = _Files(), []
  for path in paths:
    try:
      files.add(path)
    except DataError as error:
      broken.append(str(error))
  if not files.read:
    raise _all_broken(broken)
  wrong += broken
  if len(files.read) > 1:
    shown = ", ".join(f"{kind} ({next(iter(found))})" for kind, found in files.read.items())
    raise DataError(
      f"annotations of several kinds: {shown}; give the file or folder of one of them"
    )
  return files.annotations(wrong)


def known_file(paths: Iterable[pathlib.Path]) -> pathlib.Path | None:
  """The first annotation file that is read, of those that tell whether there are any."""
  paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
  return next((path for path in _first_of_each(paths) if _is_known(path)), None)


class _Files:
  """The files of a folder, sorted by their content.

  Attributes:
    read: kind -> file -> its pictures.
  """

  def __init__(self) -> None:
    self.read: dict[str, dict[pathlib.Path, list[Annotated]]] = collections.defaultdict(dict)
    self._joints: list[pathlib.Path] = []
    self._boxes: dict[pathlib.Path, Any] = {}
    self._blank: list[pathlib.Path] = []
    self._left_out: list[str] = []
    self._notes: list[str] = []

  def add(self, path: pathlib.Path) -> None:
    """Reads a file; DataError when it is broken."""
    content = _parse(path)
    kind = _kind(content)
    if content == []:
      self._blank.append(path)
    elif kind == VOC:
      self._boxes[path] = content
    elif kind is not None:
      self.read[kind][path] = _read(content, kind, path)
      if coco.has_keypoints(content):
        self._joints.append(path)
    elif of_kind := foreign.name(content):
      self._notes.append(f"{path} is left out: {of_kind[0]}")
    else:
      self._left_out.append(path.name)

  def annotations(self, wrong: list[str]) -> Annotations:
    """All of the one kind that was read; appends to `wrong` files that do not go with it."""
    ((kind, by_file),) = self.read.items()
    left_out, notes = list(self._left_out), list(self._notes)
    if len(self._joints) < len(by_file):
      for path in self._joints:
        del by_file[path]
        notes.append(f"{path} is left out: joints of people, whose masks are in other files, too")
    if kind == yolo.KIND:  # of pictures that show nothing
      by_file |= {path: yolo.read([], str(path)) for path in self._blank}
    else:
      left_out += [path.name for path in self._blank]
    if kind == objects_xml.KIND:
      by_file |= {path: _read(each, kind, path) for path, each in self._boxes.items()}
    else:
      wrong += [_no_masks(path) for path in self._boxes]
    pictures = [each for found in by_file.values() for each in found]
    notes += _doubts(kind, pictures)
    return Annotations(kind, tuple(pictures), tuple(left_out), tuple(notes))


def refuse_others(paths: Sequence[pathlib.Path], folder: str | None) -> None:
  """DataError that names the annotations of a folder without masks that are not read.

  Args:
    paths: its files.
    folder: its name, where nothing else in it can be a mask; None where something may be one.
  """
  broken, unknown = [], []
  for path in _first_of_each(path for path in paths if path.suffix.lower() in SUFFIXES):
    try:
      content = _parse(path)
    except DataError as error:
      broken.append(str(error))
      continue
    if _kind(content) == VOC:
      raise DataError(_no_masks(path))
    if content and foreign.name(content):
      raise _unknown(path, content)
    unknown += [_unknown(path, content)] if content else []
  if folder is None or any(path.suffix.lower() in PICTURE_SUFFIXES for path in paths):
    return
  if broken:
    raise _all_broken(broken)
  if unknown:
    raise unknown[0]
  if paths:
    counts = collections.Counter(path.suffix.lower() or path.name for path in paths)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(_TRIED))
    raise DataError(
      f"{folder} holds neither masks nor annotations that are read, but {shown} (such as "
      f"{paths[0].name}); give {ACCEPTED}, or a folder of masks"
    )


def _unknown(path: pathlib.Path, content: Any) -> DataError:
  of_kind = foreign.name(content)
  if of_kind is not None:
    return DataError(f"{path}: {of_kind[0]}; {of_kind[1]}, or give a folder of masks")
  return DataError(f"{path}: no annotations of a known kind; give {ACCEPTED}, or a folder of masks")


def _doubts(kind: str, pictures: Sequence[Annotated]) -> tuple[str, ...]:
  """Notes on what may be meant otherwise; DataError when that is likely."""
  if kind != yolo.KIND:
    return ()
  error, note = yolo.doubts(pictures)
  if error:
    raise DataError(error)
  return (note,) if note else ()


def _first_of_each(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  counts: collections.Counter[str] = collections.Counter()
  first = []
  for path in paths:
    counts[path.suffix.lower()] += path.stat().st_size > 0
    if counts[path.suffix.lower()] <= _TRIED:
      first.append(path)
  return first


def _is_known(path: pathlib.Path) -> bool:
  try:
    content = _parse(path)
  except DataError:  # reading the others will tell
    return False
  return content != [] and _kind(content) not in (None, VOC)


def _parse(path: pathlib.Path) -> Any:
  """JSON, the root of XML, or lines of text."""
  try:
    if _is_zip(path):
      raise DataError(f"{path}: a ZIP file; unpack it, and give the file or folder inside of it")
    text = text_files.read_text(path)
  except ValueError as error:
    raise DataError(f"{path}: cannot be read as text: {error}") from error
  start = text.lstrip()[:1]
  try:
    if start in ("{", "["):
      return json.loads(text)
    if start == "<":
      return ET.fromstring(text)
  except json.JSONDecodeError as error:
    where = f"line {error.lineno}, column {error.colno}"
    raise _broken(path, f"no JSON from {where} on, or cut off there") from error
  except ET.ParseError as error:
    raise _broken(path, str(error)) from error
  except (ValueError, RecursionError) as error:
    raise _broken(path, "numbers that are too long, or too many brackets") from error
  return [line.strip() for line in text.splitlines() if line.strip()]


def _is_zip(path: pathlib.Path) -> bool:
  try:
    return zipfile.is_zipfile(path)
  except zipfile.BadZipFile:  # such as a part of one
    return True


def _all_broken(lines: Sequence[str]) -> DataError:
  if len(lines) == 1:
    return DataError(lines[0])
  return DataError.of_all("annotations that cannot be read:", lines)


def _broken(path: pathlib.Path, what: str) -> DataError:
  return DataError(f"{path}: broken ({what}); export it again, or remove it")


def _format(content: Any) -> ModuleType | None:
  return next((format_ for format_ in _FORMATS if format_.knows(content)), None)


def _kind(content: Any) -> str | None:
  if objects_xml.is_of_boxes(content):
    return VOC
  if foreign.name(content) is not None:
    return None
  format_ = _format(content)
  return format_ and format_.KIND


def _read(content: Any, kind: str, path: pathlib.Path) -> list[Annotated]:
  if kind == VOC:
    raise DataError(_no_masks(path))
  format_ = next(format_ for format_ in _FORMATS if format_.KIND == kind)
  try:
    return format_.read(content, str(path))
  except ValueError as error:
    raise DataError(
      f"{path}: no {kind} as it should be: {error}; correct it, or export it again"
    ) from error


def _no_masks(path: pathlib.Path) -> str:
  """What to say of the XML of PASCAL VOC."""
  near = path.parent.parent / "SegmentationClass"
  place = f" (--labels {near})" if os.path.isdir(near) else ""
  return (
    f"{path}: {VOC} has boxes, which are no masks; give the folder SegmentationClass of PNG files "
    f"beside its folder{place}, or export polygons or masks as COCO JSON"
  )
