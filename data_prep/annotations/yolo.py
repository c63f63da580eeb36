"""YOLO's text files, one for each picture: the class's number and a polygon in shares of the sides.

A line of a number and a box of four shares has no mask.
"""

import pathlib
import re

from data_prep.annotations import outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "YOLO text"
_SHARE = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?"
_LINE = re.compile(rf"\d+(?:\s+{_SHARE}){{4,}}")


def knows(content: object) -> bool:
  """Whether the lines of a file are of this kind; an empty one may be of any."""
  return isinstance(content, list) and all(
    isinstance(line, str) and _LINE.fullmatch(line) for line in content
  )


def read(content: list[str], where: str) -> list[Annotated]:
  """The picture of a file; ValueError when it is broken."""
  return [Annotated(where, pathlib.PurePath(where).stem, None, tuple(map(_shape, content)))]


def _shape(line: str) -> Shape:
  number, *numbers = line.split()
  if len(numbers) == 4:
    return Shape(int(number), "box without a mask", None)
  ring = outlines.ring(map(float, numbers))
  if ring.max() > 1.5:
    raise ValueError(f"{ring.max():g} in a line of shares of width and height")
  return Shape(int(number), "polygon", outlines.Rings(((ring,),), relative=True))
