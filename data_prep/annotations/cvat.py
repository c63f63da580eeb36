"""CVAT's XML "CVAT for images 1.1"."""

import xml.etree.ElementTree as ET

from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Area, Shape

KIND = "CVAT XML"
_TAGS = {"box": "box", "polyline": "line", "points": "point"}
_NO_SHAPES = ("tag", "attribute")


def knows(content: object) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, ET.Element) and content.tag == "annotations"


def read(content: ET.Element, where: str) -> list[Annotated]:
  """The pictures of a file; TypeError or ValueError when it is broken.

  Shapes of a higher z_order come later.
  """
  if content.find("track") is not None:
    raise ValueError('it is of a video; export it as "CVAT for images 1.1"')
  return [
    Annotated(
      where,
      str(image.get("name")),
      (int(image.get("height")), int(image.get("width"))),
      tuple(_shape(e) for e in sorted(image, key=_z) if e.tag not in _NO_SHAPES),
    )
    for image in content.findall("image")
  ]


def _z(element: ET.Element) -> int:
  return int(element.get("z_order", 0))


def _shape(element: ET.Element) -> Shape:
  kind = _TAGS.get(element.tag, element.tag)
  return Shape(str(element.get("label")), kind, _area(element))


def _area(element: ET.Element) -> Area | None:
  def number(name: str) -> float:
    return float(element.get(name, 0))

  if element.tag == "box":
    return outlines.box(*map(number, ("xtl", "ytl", "xbr", "ybr", "rotation")))
  if element.tag == "ellipse":
    return outlines.Ellipse(*map(number, ("cx", "cy", "rx", "ry", "rotation")))
  if element.tag == "mask":
    counts = tuple(map(int, element.get("rle").split(",")))
    height, width, top, left = (int(element.get(n)) for n in ("height", "width", "top", "left"))
    return masks.Runs(counts, (height, width), by_column=False, corner=(top, left))
  if element.tag not in ("polygon", "polyline", "points"):
    return None
  points = outlines.ring(map(float, element.get("points").replace(";", ",").split(",")))
  return outlines.Rings(((points,),)) if element.tag == "polygon" else outlines.Line(points)
