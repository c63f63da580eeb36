"""XML with an <annotation> for each picture: the polygons of LabelMe on the web, and boxes.

PASCAL VOC's has the same form and only boxes; some tools write polygons into it, as numbered
coordinates <x1>, <y1>, ...
"""

import xml.etree.ElementTree as ET

from data_prep.annotations import fields as of
from data_prep.annotations import outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "LabelMe XML"
_TAG = "annotation"


def is_of_boxes(content: object) -> bool:
  """Whether a parsed file is of this form and has no polygon."""
  return isinstance(content, ET.Element) and content.tag == _TAG and not knows(content)


def knows(content: object) -> bool:
  """Whether a parsed file is of this form and has a polygon."""
  return (
    isinstance(content, ET.Element)
    and content.tag == _TAG
    and any(content.find(f"object/{tag}") is not None for tag in ("polygon", "segm"))
  )


def read(content: ET.Element, where: str) -> list[Annotated]:
  """The picture of a file; ValueError when it is broken."""
  name = (content.findtext("filename") or "").strip()
  kept = [each for each in content.findall("object") if not _is_deleted(each)]
  shapes = of.each(kept, "object", _shape)
  return [Annotated(where, of.text({"filename": name}, "filename"), _size(content), tuple(shapes))]


def _is_deleted(element: ET.Element) -> bool:
  return (element.findtext("deleted") or "").strip() == "1"


def _size(content: ET.Element) -> tuple[int, int] | None:
  """None when the file does not say: LabelMe leaves it out or writes nothing into it."""
  for height, width in (("imagesize/nrows", "imagesize/ncols"), ("size/height", "size/width")):
    texts = [(content.findtext(path) or "").strip() for path in (height, width)]
    if all(text.isdigit() for text in texts):
      return of.size(*map(int, texts))
  return None


def _shape(element: ET.Element) -> Shape:
  label = of.text({"name": (element.findtext("name") or "").strip()}, "name")
  polygon = element.find("polygon")
  if polygon is None:
    kind = "scribble" if element.find("segm") is not None else "box without a mask"
    return Shape(label, kind, None)
  points = [_texts(point.findtext("x"), point.findtext("y")) for point in polygon.findall("pt")]
  while polygon.find(f"x{len(points) + 1}") is not None:
    number = len(points) + 1
    points.append(_texts(polygon.findtext(f"x{number}"), polygon.findtext(f"y{number}")))
  return outlines.polygon(label, outlines.ring(points))


def _texts(x: str | None, y: str | None) -> list[str]:
  return [(x or "").strip(), (y or "").strip()]
