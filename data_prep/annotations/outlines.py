"""Outlines that people draw on pictures, and the pixels inside of them.

Coordinates are in pixels, x to the right and y down; the first pixel is the square from (0, 0) to
(1, 1), as in COCO, CVAT and labelme. A pixel is inside of a shape if its center is: the fills of
OpenCV and Pillow would add each pixel that the outline touches, so that a box of 4 x 3 had 5 x 4.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from data_prep.annotations.shapes import Shape, Size, Window, by

_FARTHEST = 1e7  # pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Rings:
  """Polygons.

  Attributes:
    parts: each of rings [n, 2] of (x, y), of which the second and further ones are holes.
    relative: whether coordinates are shares of width and height.
  """

  parts: tuple[tuple[np.ndarray, ...], ...]
  relative: bool = False

  def window(self, size: Size, line_width: float) -> Window:
    """Pixels in any part; the outline's where a polygon is too thin to have a center inside."""
    scale = np.array(size[::-1], float) if self.relative else 1.0
    parts = [[ring * scale for ring in part] for part in self.parts]
    top, left, height, width = _bounds(
      np.concatenate([ring for part in parts for ring in part]), size
    )
    inside = np.zeros((height, width), bool)
    for part in parts:
      inside |= _odd(part, top, left, inside.shape)
    if not inside.any() and inside.size:
      outline = inside.astype(np.uint8)
      for ring, *_ in parts:
        corners = np.floor(ring - (left, top)).astype(np.int32)
        cv2.polylines(outline, [corners], isClosed=True, color=1)
      inside = outline.astype(bool)
    return top, left, inside


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
  """A polygon whose corners [n, 2] are pixels (column, row), which belong to it, and its holes."""

  outer: np.ndarray
  holes: tuple[np.ndarray, ...] = ()

  def window(self, size: Size, line_width: float) -> Window:
    """Pixels inside of the outer ring and on it, and neither in a hole nor on its ring."""
    top, left, height, width = _bounds(self.outer + 0.5, size)
    mask = np.zeros((height, width), np.uint8)
    if mask.size:
      for ring, value in ((self.outer, 1), *((hole, 0) for hole in self.holes)):
        cv2.fillPoly(mask, [np.rint(ring - (left, top)).astype(np.int32)], value)
    return top, left, mask.astype(bool)


@dataclasses.dataclass(frozen=True)
class Ellipse:
  """A circle or an ellipse with center (x, y), radii and a turn in degrees, clockwise."""

  x: float
  y: float
  radius_x: float
  radius_y: float
  degrees: float = 0.0

  def window(self, size: Size, line_width: float) -> Window:
    """Pixels whose center is inside."""
    reach = max(self.radius_x, self.radius_y)
    box = np.array([[self.x - reach, self.y - reach], [self.x + reach, self.y + reach]])
    top, left, height, width = _bounds(box, size)
    dx, dy = _centers(top, left, height, width, self.x, self.y)
    sine, cosine = np.sin(np.deg2rad(self.degrees)), np.cos(np.deg2rad(self.degrees))
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    inside = (along * self.radius_y) ** 2 + (across * self.radius_x) ** 2
    return top, left, inside <= (self.radius_x * self.radius_y) ** 2


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
  """A line through points [n, 2], or one point, which has no area but for the width it is given."""

  points: np.ndarray

  def window(self, size: Size, line_width: float) -> Window:
    """Pixels whose center is no farther from the line than half of `line_width`."""
    half = line_width / 2
    reach = np.concatenate([self.points - half, self.points + half])
    top, left, height, width = _bounds(reach, size)
    inside = np.zeros((height, width), bool)
    for start, end in zip(self.points, self.points[1:] if len(self.points) > 1 else self.points):
      dx, dy = _centers(top, left, height, width, *start)
      (x, y), length = end - start, float(((end - start) ** 2).sum())
      share = np.clip((dx * x + dy * y) / length, 0, 1) if length else 0.0
      inside |= (dx - share * x) ** 2 + (dy - share * y) ** 2 <= half**2
    return top, left, inside


def ring(numbers: Any) -> np.ndarray:
  """Points float64 [n, 2] of flat or paired numbers; ValueError when these are none."""
  if not isinstance(numbers, list | tuple | np.ndarray):
    raise ValueError("a shape without points")
  try:
    points = np.asarray(numbers, float)
  except (TypeError, ValueError, OverflowError) as error:
    raise ValueError("points that are no pairs of numbers") from error
  if not points.size:
    raise ValueError("a shape without points")
  if points.ndim == 1 and points.size % 2:
    raise ValueError(f"{points.size} numbers, which are no pairs of x and y")
  if points.ndim > 2 or (points.ndim == 2 and points.shape[1] != 2):
    raise ValueError("points that are no pairs of numbers")
  if not (np.abs(points) <= _FARTHEST).all():
    raise ValueError("points whose numbers are not finite, or too large")
  return points.reshape(-1, 2)


def polygon(label: str | int, points: np.ndarray, crowd: bool = False) -> Shape:
  """A polygon; points [n, 2] of fewer than three places are a line or a point."""
  places = len(points) if len(points) > 4 else len(np.unique(points, axis=0))
  if places < 3:
    kind = f"polygon of {places} point{'s' if places > 1 else ''}"
    return Shape(label, kind, Line(points), crowd)
  return Shape(label, "polygon", Rings(((points,),)), crowd)


def circle(label: str | int, x: float, y: float, radius: float) -> Shape:
  """A circle; one without a radius is a point."""
  if not radius:
    return Shape(label, "circle without a radius", Line(np.array([[x, y]], float)))
  return Shape(label, "circle", Ellipse(x, y, abs(radius), abs(radius)))


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Rings:
  """A box, turned about its center by degrees, clockwise."""
  corners = ring([left, top, right, top, right, bottom, left, bottom])
  turn = np.deg2rad(degrees)
  rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
  center = corners.mean(0)
  return Rings((((corners - center) @ rotation + center if degrees else corners,),))


def _odd(rings: Sequence[np.ndarray], top: int, left: int, shape: Size) -> np.ndarray:
  """Pixels of a window whose centers lie in an odd number of rings, bool `shape`."""
  flips = np.zeros((shape[0], shape[1] + 1), bool)
  rows = top + np.arange(shape[0]) + 0.5
  for x0, y0, x1, y1 in (np.hstack([ring, np.roll(ring, -1, axis=0)]).T for ring in rings):
    edge, row = np.nonzero((y0[:, None] <= rows) != (y1[:, None] <= rows))
    share = (rows[row] - y0[edge]) / (y1 - y0)[edge]
    x = x0[edge] + share * (x1 - x0)[edge] - left
    column = np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(int)
    np.logical_xor.at(flips, (row, column), True)
  return np.logical_xor.accumulate(flips[:, :-1], axis=1)


def _bounds(points: np.ndarray, size: Size) -> tuple[int, int, int, int]:
  """Top, left, height and width of the window of a picture that holds all points in it."""
  (x0, y0), (x1, y1) = points.min(0), points.max(0)
  if x0 > size[1] or y0 > size[0] or x1 < 0 or y1 < 0:
    raise ValueError(
      f"it lies from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), outside of the picture of {by(size)}"
    )
  top, left = max(int(np.floor(y0)), 0), max(int(np.floor(x0)), 0)
  bottom, right = (min(int(np.floor(v)) + 1, side) for v, side in zip((y1, x1), size))
  return top, left, max(bottom - top, 0), max(right - left, 0)


def _centers(
  top: int, left: int, height: int, width: int, x: float, y: float
) -> tuple[np.ndarray, np.ndarray]:
  """Centers of a window's pixels relative to a point: dx [1, w] and dy [h, 1]."""
  dx, dy = left + np.arange(width) + 0.5 - x, top + np.arange(height) + 0.5 - y
  return dx[None], dy[:, None]
