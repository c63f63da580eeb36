"""Canvases of whole pictures: sizes like those of training, and few of them.

A network with stride s that learned from crops of side c saw its last feature c - 1 mod s pixels
before the border.  At a side of another class modulo s that feature lies elsewhere, at 273 = 34 * 8
+ 1 on the very last pixel, where it was never trained.  So a picture is put on a canvas whose sides
are c modulo s, its border pixels repeated around it, and the labels are cut out again.  (The mean
color around it costs up to half of the border's pixels where training showed little of it.)
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

Size = tuple[int, int]
AT_MOST = 3  # canvases for pictures of any sizes: the network is compiled for each
_MERGED_FROM = 64  # more sizes are rounded up more coarsely before they are merged
_GROWTH = 1.5  # of a canvas for sizes that nobody announced, from the third on


@dataclasses.dataclass(frozen=True)
class Grid:
  """The sizes that a network knows: those of `crop` plus or minus multiples of `stride`."""

  crop: Size
  stride: int

  def up(self, size: Iterable[float], coarse: int = 1) -> Size:
    """Returns the smallest known size that holds `size`; `coarse` times the stride apart."""
    sides = [int(np.ceil(side)) for side in size]
    return tuple(n + (c - n) % (coarse * self.stride) for n, c in zip(sides, self.crop))


def surround(image: np.ndarray, canvas: Size) -> tuple[np.ndarray, tuple[int, int]]:
  """Returns a canvas [H',W',C] around the picture [H,W,C], and (top, left) of the picture.

  The picture lies in the middle, its border pixels are repeated to the border of the canvas.
  """
  (height, width), (tall, wide) = image.shape[:2], canvas
  top, left = (tall - height) // 2, (wide - width) // 2
  around = ((top, tall - height - top), (left, wide - width - left), (0, 0))
  return np.pad(image, around, mode="edge"), (top, left)


class Canvases:
  """Finds the canvas of each picture, of few for all of them.

  Up to AT_MOST sizes of canvases are as small as can be.  Of more, those are merged for which it
  costs the fewest pixels: a function of the announced sizes alone, in any order.  Sizes that were
  not announced make do with what is there, or get a canvas that holds all before them too.
  """

  def __init__(self, grid: Grid, announced: Iterable[Size] = (), at_most: int = AT_MOST):
    """Args: the sizes a network knows; those of pictures that come; of so many that do not."""
    self._grid, self._at_most = grid, at_most
    self.sizes = _merged(grid, collections.Counter(tuple(size) for size in announced))

  def fit(self, size: Size) -> Size:
    """Returns the canvas of a picture of `size`, the smallest that holds it."""
    holding = [c for c in self.sizes if _holds(c, size)]
    if not holding:
      holding = [self._grown(size)]
      self.sizes.append(holding[0])
    return min(holding, key=lambda c: (c[0] * c[1], c))

  def _grown(self, size: Size) -> Size:
    least = tuple(map(max, zip(size, *self.sizes)))
    more = _GROWTH if len(self.sizes) >= self._at_most - 1 else 1
    return self._grid.up(side * more for side in least)


def _holds(canvas: Size, size: Size) -> bool:
  return canvas[0] >= size[0] and canvas[1] >= size[1]


def _merged(grid: Grid, counts: collections.Counter[Size]) -> list[Size]:
  """The canvases of sizes that so many pictures have, at most AT_MOST."""
  coarse, canvases = 1, _counted(grid, counts, 1)
  while len(canvases) > _MERGED_FROM:
    coarse *= 2
    canvases = _counted(grid, counts, coarse)
  while len(canvases) > AT_MOST:
    pairs = itertools.combinations(sorted(canvases), 2)
    a, b = min(pairs, key=lambda pair: (_added(canvases, *pair), pair))
    pictures = canvases.pop(a) + canvases.pop(b)
    canvases[_around(a, b)] += pictures
  return sorted(canvases)


def _counted(grid: Grid, counts: collections.Counter[Size], coarse: int) -> collections.Counter:
  found: collections.Counter[Size] = collections.Counter()
  for size, pictures in counts.items():
    found[grid.up(size, coarse)] += pictures
  return found


def _added(canvases: collections.Counter[Size], a: Size, b: Size) -> int:
  """Pixels that pictures on the canvases a and b have more on the one around both."""
  height, width = _around(a, b)
  return sum(canvases[c] * (height * width - c[0] * c[1]) for c in (a, b))


def _around(a: Size, b: Size) -> Size:
  return max(a[0], b[0]), max(a[1], b[1])
