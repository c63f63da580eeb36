"""Datumaro's JSON: polygons, masks, boxes, lines."""

import pathlib
from collections.abc import Mapping
from typing import Any

from data_prep.annotations import fields as of
from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "Datumaro JSON"
_LINES = {"polyline": "line", "points": "point"}
_NO_SHAPES = ("label", "caption")


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "items" in content and "categories" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The pictures of a file; ValueError when it is broken."""
  labels = of.items(of.get(of.get(content, "categories"), "label"), "labels")
  names = of.each(labels, "label", lambda label: of.text(label, "name"))
  return of.each(of.items(content, "items"), "item", lambda item: _annotated(item, names, where))


def _annotated(item: Any, names: list[str], where: str) -> Annotated:
  """Of an item, whose id is the picture's path without its suffix."""
  id_, image = of.text(item, "id"), of.inner(item, "image")
  size = of.size(*of.numbers(image["size"], "size", 2)) if image.get("size") else None
  suffix = pathlib.PurePath(of.text(image, "path") if image.get("path") else "").suffix
  found = [a for a in of.items(item, "annotations") if of.get(a, "type") not in _NO_SHAPES]
  shapes = of.each(
    found, "annotation", lambda a: (of.whole(a.get("z_order", 0), "z_order"), _shape(a, names))
  )
  shapes.sort(key=lambda shape: shape[0])
  picture = id_ if id_.endswith(suffix) else id_ + suffix
  return Annotated(where, picture, size, tuple(shape for _, shape in shapes))


def _shape(fields: Mapping[str, Any], names: list[str]) -> Shape:
  kind, number = of.text(fields, "type"), of.whole(of.get(fields, "label_id"), "label_id", 0)
  if number >= len(names):
    raise ValueError(f"it is of label {number}, and the file has {len(names)}")
  label = names[number]
  if kind == "mask":
    rle = of.get(fields, "rle")
    height, width = (
      of.whole(side, "size", 1) for side in of.numbers(of.get(rle, "size"), "size", 2)
    )
    counts = masks.check_runs(of.get(rle, "counts"))
    return Shape(label, kind, masks.Runs(counts, (height, width), by_column=True))
  if kind == "bbox":
    left, top, width, height = of.numbers(of.get(fields, "bbox"), "bbox", 4)
    return Shape(label, "box", outlines.box(left, top, left + width, top + height))
  if kind == "polygon":
    return outlines.polygon(label, outlines.ring(of.get(fields, "points")))
  if kind in _LINES:
    return Shape(label, _LINES[kind], outlines.Line(outlines.ring(of.get(fields, "points"))))
  return Shape(label, kind, None)
