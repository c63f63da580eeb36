"""CVAT's XML "CVAT for images 1.1"."""

import re
import xml.etree.ElementTree as ET

from data_prep.annotations import fields as of
from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "CVAT XML"
_LINES = {"polyline": "line", "points": "point"}
_NO_SHAPES = ("tag", "attribute")


def knows(content: object) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, ET.Element) and content.tag == "annotations"


def read(content: ET.Element, where: str) -> list[Annotated]:
  """The pictures of a file; ValueError when it is broken.

  Shapes of a higher z_order come later.
  """
  if content.find("track") is not None:
    raise ValueError('it is of a video; export it as "CVAT for images 1.1"')

  def image(element: ET.Element) -> Annotated:
    size = of.size(element.get("height"), element.get("width"))
    found = [each for each in element if each.tag not in _NO_SHAPES]
    shapes = of.each(found, "shape", lambda each: (_z(each), _shape(each)))
    shapes.sort(key=lambda shape: shape[0])
    return Annotated(where, of.text(element.attrib, "name"), size, tuple(s for _, s in shapes))

  return of.each(content.findall("image"), "image", image)


def _z(element: ET.Element) -> int:
  return of.whole(element.get("z_order", 0), "z_order")


def _shape(element: ET.Element) -> Shape:
  kind, label = element.tag, of.text(element.attrib, "label")

  def number(name: str) -> float:
    return of.number(element.get(name, 0), name)

  def whole(name: str, least: int | None = None) -> int:
    return of.whole(of.get(element.attrib, name), name, least)

  if kind == "box":
    sides = (of.number(of.get(element.attrib, n), n) for n in ("xtl", "ytl", "xbr", "ybr"))
    return Shape(label, kind, outlines.box(*sides, number("rotation")))
  if kind == "ellipse":
    area = outlines.Ellipse(*map(number, ("cx", "cy", "rx", "ry", "rotation")))
    return Shape(label, kind, area)
  if kind == "mask":
    rle = of.text(element.attrib, "rle")
    if not re.fullmatch(r"\s*\d{1,9}(\s*,\s*\d{1,9})*\s*", rle):
      raise ValueError("'rle' has no whole numbers between commas")
    counts = tuple(map(int, rle.split(",")))
    shape, corner = (whole("height", 1), whole("width", 1)), (whole("top"), whole("left"))
    return Shape(label, kind, masks.Runs(counts, shape, by_column=False, corner=corner))
  if kind not in ("polygon", *_LINES):
    return Shape(label, kind, None)
  points = outlines.ring(re.split(r"[;,]", of.text(element.attrib, "points")))
  if kind == "polygon":
    return outlines.polygon(label, points)
  return Shape(label, _LINES[kind], outlines.Line(points))
