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

from data_prep.annotations import coco, cvat, datumaro, labelme, supervisely, yolo
from data_prep.annotations.shapes import Annotated
from semiseg_jax.errors import DataError

SUFFIXES = (".json", ".xml", ".txt")
ACCEPTED = (
  'COCO JSON, labelme JSON, "CVAT for images" XML, Supervisely JSON, Datumaro JSON, polygons of '
  "YOLO"
)
VOC = "PASCAL VOC XML"
_FORMATS = (coco, labelme, cvat, supervisely, datumaro, yolo)
_TRIED = 8  # files of a folder that tell whether it has annotations


@dataclasses.dataclass(frozen=True)
class Annotations:
  """What was read.

  Attributes:
    kind: the kind of the files.
    pictures: all that are annotated, in the order of the files.
    left_out: the names of other files.
  """

  kind: str
  pictures: tuple[Annotated, ...]
  left_out: tuple[str, ...]


def read_file(path: pathlib.Path) -> Annotations:
  """Reads a file; DataError when it is of no known kind, or broken."""
  content = _parse(path)
  kind = _kind(content)
  if kind is None:
    raise DataError(
      f"{path}: no annotations of a known kind; give {ACCEPTED}, or a folder of masks"
    )
  return Annotations(kind, tuple(_read(content, kind, path)), ())


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
  paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
  if not any(_is_known(path) for path in _first_of_each(paths)):
    return None
  found: dict[str, list[Annotated]] = collections.defaultdict(list)
  examples: dict[str, pathlib.Path] = {}
  left_out, broken, blank = [], [], []
  for path in paths:
    try:
      content = _parse(path)
      kind = _kind(content)
      if content == []:
        blank.append(path)
      elif kind is None:
        left_out.append(path.name)
      else:
        examples.setdefault(kind, path)
        found[kind] += _read(content, kind, path)
    except DataError as error:
      broken.append(str(error))
  if not found:
    raise DataError.of_all("annotations that cannot be read:", broken)
  wrong += broken
  if len(found) > 1:
    shown = ", ".join(f"{kind} ({path})" for kind, path in examples.items())
    raise DataError(
      f"annotations of several kinds: {shown}; give the file or folder of one of them"
    )
  ((kind, pictures),) = found.items()
  if kind == yolo.KIND:  # of pictures that show nothing
    pictures += [each for path in blank for each in yolo.read([], str(path))]
  else:
    left_out += [path.name for path in blank]
  return Annotations(kind, tuple(pictures), tuple(left_out))


def refuse_boxes(paths: Iterable[pathlib.Path]) -> None:
  """DataError when one of the first XML files of a folder without masks is of PASCAL VOC."""
  for path in _first_of_each(path for path in paths if path.suffix.lower() == ".xml"):
    if _kind(_parse(path)) == VOC:
      raise DataError(_no_masks(path))


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
    if zipfile.is_zipfile(path):
      raise DataError(f"{path}: a ZIP file; unpack it, and give the file or folder inside of it")
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f"{path}: cannot be read as text ({error}); correct or remove it") from error
  start = text.lstrip()[:1]
  try:
    if start in ("{", "["):
      return json.loads(text)
    if start == "<":
      return ET.fromstring(text)
  except (ValueError, ET.ParseError, RecursionError) as error:
    raise DataError(f"{path}: broken ({error}); export it again, or remove it") from error
  return [line.strip() for line in text.splitlines() if line.strip()]


def _format(content: Any) -> ModuleType | None:
  return next((format_ for format_ in _FORMATS if format_.knows(content)), None)


def _kind(content: Any) -> str | None:
  if isinstance(content, ET.Element) and content.tag == "annotation":
    return VOC
  format_ = _format(content)
  return format_ and format_.KIND


def _read(content: Any, kind: str, path: pathlib.Path) -> list[Annotated]:
  if kind == VOC:
    raise DataError(_no_masks(path))
  try:
    return _format(content).read(content, str(path))
  except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
    raise DataError(
      f"{path}: no {kind} as it should be ({type(error).__name__}: {error}); export it again"
    ) from error


def _no_masks(path: pathlib.Path) -> str:
  """What to say of the XML of PASCAL VOC."""
  near = path.parent.parent / "SegmentationClass"
  place = f" (--labels {near})" if os.path.isdir(near) else ""
  return (
    f"{path}: {VOC} has boxes, which are no masks; give the folder SegmentationClass of PNG files "
    f"beside its folder{place}, or export polygons or masks as COCO JSON"
  )
