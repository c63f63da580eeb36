"""labelme's JSON, a file for each picture."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Area, Shape

KIND = "labelme JSON"
_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
_LINES = {"line": "line", "linestrip": "line", "point": "point", "points": "point"}


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The picture of a file; KeyError, TypeError, ValueError when it is broken."""
  height, width = content.get("imageHeight"), content.get("imageWidth")
  size = (int(height), int(width)) if height and width else None
  shapes_ = tuple(map(_shape, content["shapes"]))
  return [Annotated(where, content["imagePath"], size, shapes_, pathlib.PurePath(where).stem)]


def _shape(fields: Mapping[str, Any]) -> Shape:
  kind = fields.get("shape_type") or "polygon"
  area = _area(kind, outlines.ring(fields["points"]), fields.get("mask"))
  return Shape(str(fields["label"]), _LINES.get(kind, kind), area)


def _area(kind: str, points: np.ndarray, mask: str | None) -> Area | None:
  if kind in _POLYGONS or (kind == "rectangle" and len(points) == 4):
    return outlines.Rings(((points,),))
  if kind == "rectangle":
    return outlines.box(*points.min(0), *points.max(0))
  if kind == "circle":
    radius = float(np.hypot(*(points[1] - points[0])))
    return outlines.Ellipse(*points[0], radius, radius)
  if kind == "mask":
    left, top = points[0].astype(int)
    return masks.Png(mask or "", (int(top), int(left)), deflated=False)
  return outlines.Line(points) if kind in _LINES else None
