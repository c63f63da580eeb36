"""The shapes of a picture -> its label."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from data_prep.annotations.outlines import Line
from data_prep.annotations.shapes import Annotated, Size
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Rules:
  """How shapes become a label.

  Attributes:
    values: the class of each label of shapes, or IGNORE; shapes of others are not drawn.
    rest: of pixels in no shape.
    by_area: where shapes overlap, the smaller one is seen, instead of the later one.
    crowds_count: crowds are of their class; otherwise they are ignored.
    line_width: of lines, and the diameter of points, in pixels; 0: they are not drawn.
  """

  values: Mapping[str | int, int]
  rest: int
  by_area: bool
  crowds_count: bool = False
  line_width: float = 0.0


def draw(annotated: Annotated, size: Size, rules: Rules) -> np.ndarray:
  """The label uint8 [H, W] of a picture of `size` (H, W); crowds lie below all other shapes.

  Raises:
    DataError: a shape that lies outside of the picture, or a mask that cannot be decoded.
  """
  windows, wrong = [], []
  for number, shape in enumerate(annotated.shapes, 1):
    is_line = isinstance(shape.area, Line)
    if shape.area is None or shape.label not in rules.values or (is_line and not rules.line_width):
      continue
    try:
      top, left, inside = shape.area.window(size, rules.line_width)
    except ValueError as error:
      wrong.append(
        f"{annotated.where}: shape {number} of {annotated.picture}, a {shape.kind} of "
        f"{shape.label!r}: {error}; correct or remove it"
      )
      continue
    value = rules.values[shape.label]
    if shape.crowd and not rules.crowds_count:
      value = IGNORE
    windows.append((not shape.crowd, -int(inside.sum()), value, top, left, inside))
  if wrong:
    raise DataError("\n".join(wrong))
  windows.sort(key=lambda w: w[:2] if rules.by_area else w[:1])
  label = np.full(size, rules.rest, np.uint8)
  for _, _, value, top, left, inside in windows:
    height, width = inside.shape
    label[top : top + height, left : left + width][inside] = value
  return label


def draw_or_blank(annotated: Annotated, size: Size, rules: Rules) -> np.ndarray:
  """As `draw`, of a picture of `size`; where the annotations have another one, a blank of that."""
  stated = annotated.size or size
  if stated != tuple(size):
    return np.broadcast_to(np.uint8(0), stated)  # which takes no memory, as large as it may be
  return draw(annotated, size, rules)
