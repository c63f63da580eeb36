"""labelme's JSON, a file for each picture."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_prep.annotations import fields as of
from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "labelme JSON"
_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
_LINES = {"line": "line", "linestrip": "line", "point": "point", "points": "point"}


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The picture of a file; ValueError when it is broken."""
  size = of.size(content.get("imageHeight"), content.get("imageWidth"))
  shapes_ = tuple(of.each(of.items(content, "shapes"), "shape", _shape))
  name = of.text(content, "imagePath")
  return [Annotated(where, name, size, shapes_, pathlib.PurePath(where).stem)]


def _shape(fields: Any) -> Shape:
  label, points = of.text(fields, "label"), outlines.ring(of.get(fields, "points"))
  kind = of.text(fields, "shape_type") if fields.get("shape_type") else "polygon"
  if kind in _POLYGONS:
    return outlines.polygon(label, points)
  if kind == "rectangle":
    return Shape(label, kind, _rectangle(points))
  if kind == "circle":
    if len(points) != 2:
      raise ValueError(f"a circle of {len(points)} points, which are its center and one on it")
    return outlines.circle(label, *points[0], float(np.hypot(*(points[1] - points[0]))))
  if kind == "mask":
    left, top = points[0].astype(int)
    picture = masks.Png(of.text(fields, "mask"), (int(top), int(left)), deflated=False)
    return Shape(label, kind, picture)
  return Shape(label, _LINES.get(kind, kind), outlines.Line(points) if kind in _LINES else None)


def _rectangle(points: np.ndarray) -> outlines.Rings:
  """Of two opposite corners, or of all four."""
  if len(points) == 4:
    return outlines.Rings(((points,),))
  if len(points) != 2:
    raise ValueError(f"a rectangle of {len(points)} points, which has two corners")
  return outlines.box(*points.min(0), *points.max(0))
