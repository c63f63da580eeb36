"""YOLO's text files, one for each picture: the class's number and a polygon in shares of the sides.

A line of a number and a box of four shares has no mask, and neither has one with the joints of a
pose behind the box: x, y and maybe 0, 1 or 2 for how well each is seen.
"""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from data_prep.annotations import fields as of
from data_prep.annotations import outlines
from data_prep.annotations.shapes import Annotated, Shape
from semiseg_jax.wording import counted

KIND = "YOLO text"
_SHARE = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_LINE = re.compile(rf"\d{{1,9}}(?:\s+{_SHARE}){{4,}}")
_SLACK = 0.02  # shares by which boxes reach over pictures, and joints over boxes


def knows(content: object) -> bool:
  """Whether the lines of a file are of this kind; an empty one may be of any."""
  return isinstance(content, list) and all(
    isinstance(line, str) and _LINE.fullmatch(line) for line in content
  )


def read(content: list[str], where: str) -> list[Annotated]:
  """The picture of a file; ValueError when it is broken."""
  shapes = of.each(content, "line", _shape)
  return [Annotated(where, pathlib.PurePath(where).stem, None, tuple(shapes))]


def doubts(pictures: Sequence[Annotated]) -> tuple[str, str]:
  """What may be wrong with lines that could be boxes with joints: an error, or else a note.

  Lines of a pose all have one length, and begin with a box of the picture that holds all joints;
  of polygons few look so.
  """
  lines = [
    (annotated, shape.area.parts[0][0].ravel())
    for annotated in pictures
    for shape in annotated.shapes
    if isinstance(shape.area, outlines.Rings)
  ]
  poses = [annotated for annotated, numbers in lines if _may_be_pose(numbers)]
  if not poses:
    return "", ""
  if len(poses) == len(lines) and len({len(numbers) for _, numbers in lines}) == 1:
    count = len(lines[0][1])
    return (
      f"all {len(lines)} lines have {count} numbers, the first four of which are a box that holds "
      f"the other {count // 2 - 2} points (the first in {poses[0].where}): as boxes with joints "
      "they are no masks; if they are polygons, export them as COCO JSON"
    ), ""
  small = [annotated for annotated, n in lines if len(n) == 6 and _may_be_pose(n)]
  if not small:
    return "", ""
  return "", (
    f"{counted(len(small), 'line')} of six numbers drawn as a triangle each, maybe boxes with a "
    f"point (the first in {small[0].where})"
  )


def _shape(line: str) -> Shape:
  number, *texts = line.split()
  label, numbers = int(number), np.array(texts, float)
  if not (np.abs(numbers) <= 2).all():
    raise ValueError(f"{np.abs(numbers).max():g} in a line of shares of width and height")
  count = len(numbers)
  if count == 4:
    return Shape(label, "box without a mask", None)
  if count == 5:
    return Shape(label, "box with a confidence", None)
  if (count - 4) % 3 == 0 and _is_pose(numbers):
    return Shape(label, "box with joints", None)
  if count % 2:
    raise ValueError(
      f"{count} numbers after the class, which are no pairs of x and y; leave out confidences, and "
      "export polygons, not poses"
    )
  if np.abs(numbers).max() > 1.5:
    raise ValueError(f"{np.abs(numbers).max():g} in a line of shares of width and height")
  return Shape(label, "polygon", outlines.Rings(((outlines.ring(numbers),),), relative=True))


def _is_pose(numbers: np.ndarray) -> bool:
  """Whether a box and joints, each of x, y and 0, 1 or 2, are meant."""
  x, y, seen = numbers[4:].reshape(-1, 3).T
  return bool(np.isin(seen, (0, 1, 2)).all()) and _holds(numbers[:4], x[seen > 0], y[seen > 0])


def _may_be_pose(numbers: np.ndarray) -> bool:
  """Whether a box and joints of x and y are possible."""
  return _holds(numbers[:4], numbers[4::2], numbers[5::2])


def _holds(box: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
  """Whether a box (center, width, height) lies in the picture and points in the box."""
  for center, side, points in ((box[0], box[2], x), (box[1], box[3], y)):
    low, high = center - side / 2, center + side / 2
    if side <= 0 or low < -_SLACK or high > 1 + _SLACK:
      return False
    if len(points) and (points.min() < low - _SLACK or points.max() > high + _SLACK):
      return False
  return True
