"""Where the windows of a picture lie, and what is around a picture that does not fill them."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from semiseg_jax.evaluation.canvases import Canvases, surround

Size = tuple[int, int]
# shifted: the last window is shifted back to end at the border.  padded: it lies beyond the border,
# where zeros follow after normalization.  cut: it ends at the border, and is smaller.
BORDERS = ("shifted", "padded", "cut")


@dataclasses.dataclass(frozen=True)
class Tile:
  """What the network sees at once.

  corner: (y, x) of its top left on the picture's canvas.  shape: (h, w).  valid: (y0, x0, y1, x1)
  of it that is picture; what is outside becomes zero after normalization.
  """

  corner: tuple[int, int]
  shape: Size
  valid: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Placed:
  """A picture on its canvas.

  canvas: uint8 [H',W',C].  extent: (H, W) that full windows cover, at least the canvas.
  window: of which the tiles are, or parts.  offset: (top, left) of the picture.  tiles: row by row.
  """

  canvas: np.ndarray
  extent: Size
  window: Size
  offset: tuple[int, int]
  tiles: tuple[Tile, ...]


Place = Callable[[np.ndarray], Placed]  # of a picture uint8 [H,W,C]


def plan(size: Size, window: Size, stride: Size) -> list[tuple[int, int]]:
  """Top left corners (y, x) of the windows over a canvas of `size`, row by row.

  A last window that would cross the border is shifted back to end at it.
  """
  rows, columns = (_starts(*axis) for axis in zip(size, window, stride))
  return [(y, x) for y in rows for x in columns]


def _starts(length: int, window: int, stride: int) -> list[int]:
  last = max(0, length - window)
  return [min(y, last) for y in _uneven(length, window, stride)]


def _uneven(length: int, window: int, stride: int) -> list[int]:
  """Multiples of the stride, until a window reaches the border."""
  return [i * stride for i in range(max(0, math.ceil((length - window) / stride)) + 1)]


def shifted(image: np.ndarray, window: Size, stride: Size) -> Placed:
  """Full windows inside of a canvas that holds at least one.

  A picture that fits into the window is padded centrally, and what is outside `valid` becomes
  zero after normalization. A larger one is padded with raw zeros (black, which normalization
  changes) along a side shorter than the window, and `valid` covers everything.
  """
  height, width = image.shape[:2]
  canvas_height, canvas_width = max(height, window[0]), max(width, window[1])
  top, left = (canvas_height - height) // 2, (canvas_width - width) // 2
  if (canvas_height, canvas_width) == (height, width):
    canvas = image
  else:
    canvas = np.zeros((canvas_height, canvas_width, image.shape[2]), image.dtype)
    canvas[top : top + height, left : left + width] = image
  fits = height <= window[0] and width <= window[1]
  valid = (top, left, top + height, left + width) if fits else (0, 0, *window)
  corners = plan(canvas.shape[:2], window, stride)
  tiles = tuple(Tile(corner, window, valid) for corner in corners)
  return Placed(canvas, canvas.shape[:2], window, (top, left), tiles)


def padded(image: np.ndarray, window: Size, stride: Size) -> Placed:
  """Full windows at multiples of the stride; below and to the right of the picture are zeros.

  AdvSemiSeg and S4GAN see VOC's pictures so, in one window of 505x505.
  """
  height, width = image.shape[:2]
  starts = [_uneven(*axis) for axis in zip(image.shape, window, stride)]
  extent = tuple(axis[-1] + side for axis, side in zip(starts, window))
  canvas = np.zeros((*extent, image.shape[2]), image.dtype)
  canvas[:height, :width] = image
  valid = lambda y, x: (0, 0, min(height - y, window[0]), min(width - x, window[1]))
  tiles = tuple(Tile((y, x), window, valid(y, x)) for y in starts[0] for x in starts[1])
  return Placed(canvas, extent, window, (0, 0), tiles)


def cut(image: np.ndarray, window: Size, stride: Size) -> Placed:
  """Windows at all multiples of the stride that lie in the picture, which cuts the last ones.

  UniMatch sees Cityscapes so.
  """
  sides = image.shape[:2]
  starts = [range(0, *axis) for axis in zip(sides, stride)]
  extent = tuple(axis[-1] + side for axis, side in zip(starts, window))
  tiles = []
  for y in starts[0]:
    for x in starts[1]:
      shape = min(sides[0] - y, window[0]), min(sides[1] - x, window[1])
      tiles.append(Tile((y, x), shape, (0, 0, *shape)))
  return Placed(image, extent, window, (0, 0), tuple(tiles))


def cut_shapes(size: Size, window: Size, stride: Size) -> set[Size]:
  """Shapes of the windows that `cut` lays over a picture of `size` (H, W)."""
  sides = [
    {min(length - start, side) for start in range(0, length, step)}
    for length, side, step in zip(size, window, stride)
  ]
  return {(height, width) for height in sides[0] for width in sides[1]}


def whole(image: np.ndarray) -> Placed:
  """The picture itself."""
  return _one(image, (0, 0))


def reflected(image: np.ndarray, multiple: int) -> Placed:
  """The picture, mirrored below and to the right up to multiples of `multiple`, as CAC and CCT."""
  rest = [(0, -side % multiple) for side in image.shape[:2]]
  return _one(np.pad(image, (*rest, (0, 0)), mode="reflect"), (0, 0))


def on_canvas(image: np.ndarray, canvases: Canvases) -> Placed:
  """The picture in the middle of one of few canvases."""
  return _one(*surround(image, canvases.fit(image.shape[:2])))


def _one(canvas: np.ndarray, offset: tuple[int, int]) -> Placed:
  size = canvas.shape[:2]
  return Placed(canvas, size, size, offset, (Tile((0, 0), size, (0, 0, *size)),))


IN_WINDOWS = {"shifted": shifted, "padded": padded, "cut": cut}
