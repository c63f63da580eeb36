"""Datumaro's JSON: polygons, masks, boxes, lines."""

import pathlib
from collections.abc import Mapping
from typing import Any

from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Area, Shape

KIND = "Datumaro JSON"
_KINDS = {"bbox": "box", "polyline": "line", "points": "point"}
_NO_SHAPES = ("label", "caption")


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "items" in content and "categories" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The pictures of a file; KeyError, TypeError, ValueError when it is broken."""
  names = [str(label["name"]) for label in content["categories"]["label"]["labels"]]
  return [_annotated(item, names, where) for item in content["items"]]


def _annotated(item: Mapping[str, Any], names: list[str], where: str) -> Annotated:
  """Of an item, whose id is the picture's path without its suffix."""
  image = item.get("image", {})
  size = tuple(map(int, image["size"])) if image.get("size") else None
  found = [a for a in item["annotations"] if a["type"] not in _NO_SHAPES]
  found.sort(key=lambda annotation: annotation.get("z_order", 0))
  suffix = pathlib.PurePath(image.get("path", "")).suffix
  picture = item["id"] if item["id"].endswith(suffix) else item["id"] + suffix
  return Annotated(where, picture, size, tuple(_shape(a, names) for a in found))


def _shape(annotation: Mapping[str, Any], names: list[str]) -> Shape:
  kind = annotation["type"]
  return Shape(names[annotation["label_id"]], _KINDS.get(kind, kind), _area(kind, annotation))


def _area(kind: str, fields: Mapping[str, Any]) -> Area | None:
  if kind == "mask":
    height, width = map(int, fields["rle"]["size"])
    return masks.Runs(fields["rle"]["counts"], (height, width), by_column=True)
  if kind == "bbox":
    left, top, width, height = fields["bbox"]
    return outlines.box(left, top, left + width, top + height)
  if kind == "polygon":
    return outlines.Rings(((outlines.ring(fields["points"]),),))
  return outlines.Line(outlines.ring(fields["points"])) if kind in _KINDS else None
