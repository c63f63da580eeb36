"""JSON of the VGG Image Annotator (VIA) 1 and 2: the regions of each picture, or its project."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_prep.annotations import fields as of
from data_prep.annotations import outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "VIA JSON"
_PROJECT = "_via_img_metadata"
_CLASS = ("class", "label", "name", "category", "type")  # what people call the attribute


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  if not isinstance(content, dict):
    return False
  entries = content.get(_PROJECT, content)
  return (
    isinstance(entries, dict)
    and bool(entries or _PROJECT in content)
    and all(isinstance(e, dict) and "filename" in e and "regions" in e for e in entries.values())
  )


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The pictures of a file; ValueError when it is broken."""
  entries = content.get(_PROJECT, content)
  return of.each(entries.values(), "picture", lambda entry: _annotated(entry, where))


def _annotated(entry: Mapping[str, Any], where: str) -> Annotated:
  regions = entry["regions"]
  if isinstance(regions, Mapping):  # of VIA 1
    regions = list(regions.values())
  shapes = of.each(of.items({"regions": regions}, "regions"), "region", _shape)
  return Annotated(where, of.text(entry, "filename"), None, tuple(shapes))


def _shape(region: Any) -> Shape:
  fields, label = of.get(region, "shape_attributes"), _label(of.inner(region, "region_attributes"))
  kind = of.text(fields, "name")

  def number(name: str) -> float:
    return of.number(of.get(fields, name), name)

  if kind in ("polygon", "polyline"):
    x, y = (
      outlines.ring([[each, 0] for each in of.items(fields, f"all_points_{n}")]) for n in "xy"
    )
    if len(x) != len(y):
      raise ValueError(f"{len(x)} numbers x and {len(y)} numbers y")
    points = np.stack([x[:, 0], y[:, 0]], axis=1)
    if kind == "polygon":
      return outlines.polygon(label, points)
    return Shape(label, "line", outlines.Line(points))
  if kind == "rect":
    left, top = number("x"), number("y")
    return Shape(
      label, "box", outlines.box(left, top, left + number("width"), top + number("height"))
    )
  if kind == "circle":
    return outlines.circle(label, number("cx"), number("cy"), number("r"))
  if kind == "ellipse":
    turn = np.rad2deg(of.number(fields.get("theta", 0), "theta"))
    area = outlines.Ellipse(*map(number, ("cx", "cy", "rx", "ry")), float(turn))
    return Shape(label, "ellipse", area)
  if kind == "point":
    return Shape(label, "point", outlines.Line(np.array([[number("cx"), number("cy")]])))
  return Shape(label, kind, None)


def _label(attributes: Mapping[str, Any]) -> str:
  """The class: the only attribute, or the one that is called so."""
  names = list(attributes)
  if len(names) > 1:
    names = [name for name in names if name.lower() in _CLASS]
  if len(names) != 1:
    listed = ", ".join(map(str, attributes)) or "none"
    raise ValueError(f"its attributes ({listed}) do not say its class; call one of them 'class'")
  value = attributes[names[0]]
  if isinstance(value, Mapping):  # of boxes to tick
    ticked = [name for name, is_ticked in value.items() if is_ticked]
    value = ticked[0] if len(ticked) == 1 else None
  return of.text({names[0]: value}, names[0]).strip()
