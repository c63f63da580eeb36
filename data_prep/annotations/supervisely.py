"""Supervisely's JSON, a file for each picture: polygons with holes, bitmaps."""

import pathlib
from collections.abc import Mapping
from typing import Any

from data_prep.annotations import fields as of
from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "Supervisely JSON"


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "objects" in content and "size" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The picture of a file; ValueError when it is broken."""
  sides = of.get(content, "size")
  size = of.size(of.get(sides, "height"), of.get(sides, "width"))
  name = pathlib.PurePath(where).name.removesuffix(".json")
  shapes = of.each(of.items(content, "objects"), "object", _shape)
  return [Annotated(where, name, size, tuple(shapes))]


def _shape(fields: Any) -> Shape:
  """Its corners are pixels, which belong to the shape."""
  kind, label = of.text(fields, "geometryType"), of.text(fields, "classTitle")
  if kind == "bitmap":
    bitmap = of.get(fields, "bitmap")
    left, top = map(int, of.numbers(of.get(bitmap, "origin"), "origin", 2))
    return Shape(label, "mask", masks.Png(of.text(bitmap, "data"), (top, left), deflated=True))
  if kind not in ("polygon", "rectangle", "line", "point"):
    return Shape(label, kind, None)
  points = of.get(fields, "points")
  outer = outlines.ring(of.get(points, "exterior"))
  if kind == "polygon":
    holes = of.items(points, "interior") if points.get("interior") else ()
    shape = outlines.polygon(label, outer + 0.5)
    if shape.kind != kind:
      return shape
    return Shape(label, kind, outlines.Pixels(outer, tuple(map(outlines.ring, holes))))
  if kind == "rectangle":
    return Shape(label, "box", outlines.box(*outer.min(0), *outer.max(0) + 1))
  return Shape(label, kind, outlines.Line(outer + 0.5))
