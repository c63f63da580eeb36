"""Supervisely's JSON, a file for each picture: polygons with holes, bitmaps."""

import pathlib
from collections.abc import Mapping
from typing import Any

from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Area, Shape

KIND = "Supervisely JSON"
_KINDS = {"bitmap": "mask", "rectangle": "box", "line": "line", "point": "point"}


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "objects" in content and "size" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The picture of a file; KeyError, TypeError, ValueError when it is broken."""
  size = int(content["size"]["height"]), int(content["size"]["width"])
  name = pathlib.PurePath(where).name.removesuffix(".json")
  return [Annotated(where, name, size, tuple(map(_shape, content["objects"])))]


def _shape(fields: Mapping[str, Any]) -> Shape:
  kind = fields["geometryType"]
  return Shape(str(fields["classTitle"]), _KINDS.get(kind, kind), _area(kind, fields))


def _area(kind: str, fields: Mapping[str, Any]) -> Area | None:
  """Its corners are pixels, which belong to the shape."""
  if kind == "bitmap":
    left, top = map(int, fields["bitmap"]["origin"])
    return masks.Png(fields["bitmap"]["data"], (top, left), deflated=True)
  if kind not in ("polygon", "rectangle", "line", "point"):
    return None
  outer = outlines.ring(fields["points"]["exterior"])
  if kind == "polygon":
    return outlines.Pixels(outer, tuple(map(outlines.ring, fields["points"].get("interior", ()))))
  if kind == "rectangle":
    return outlines.box(*outer.min(0), *outer.max(0) + 1)
  return outlines.Line(outer + 0.5)
