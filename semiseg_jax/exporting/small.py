"""Pictures that are smaller than what an exported file takes."""

import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import placing
from semiseg_jax.evaluation.canvases import Grid, surround
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.windows import Segmenter, Size


class Least:
  """What becomes of pictures with a side below the least one that a file takes."""

  def __init__(self, pixels: int, protocol: Protocol, grid: Grid):
    """Args: the least side; how pictures are seen; the sizes that the networks know."""
    self._pixels, self._protocol, self._grid = pixels, protocol, grid
    self._padded = "padded" in (protocol.whole, protocol.several_sizes)

  def refuse(self, name: object, size: Size) -> None:
    """Raises DataError where a picture of `size` (H, W) is too small, and is not to be padded."""
    least = f"{self._pixels}x{self._pixels}"
    if self._protocol.window is None:
      multiple = self._protocol.multiple if self._protocol.whole == "reflected" else 1
      if not self._padded and min(side + -side % multiple for side in size) < self._pixels:
        raise DataError(
          f"{name} is {size[0]}x{size[1]}, and the exported file takes {least} or more: "
          "--whole=padded pads smaller ones, or give the folder of the run."
        )
    elif self._protocol.border == "cut":
      shapes = placing.cut_shapes(size, self._protocol.window, self._protocol.stride)
      if min(map(min, shapes)) < self._pixels:
        raise DataError(
          f"{name} is {size[0]}x{size[1]}, so that its border cuts windows to less than {least}, "
          "the least that the exported file takes: --border=shifted cuts none, or give the folder "
          "of the run."
        )

  def canvas(self, size: Size) -> Size:
    """Returns the size that stands for `size` (H, W), itself where it is large enough."""
    if not self._padded or min(size) >= self._pixels or 0 in size:
      return size
    return self._grid.up(max(side, self._pixels) for side in size)


class AnySize:
  """A segmenter for which small pictures are put on a canvas, from which their labels are cut."""

  def __init__(self, segmenter: Segmenter, least: Least):
    self._segmenter, self._least = segmenter, least

  def segment_many(self, images: Iterable[np.ndarray], sizes: Iterable[Size] = ()) -> Iterator[Any]:
    """As `Segmenter.segment_many`.

    Raises:
      DataError: a picture that is too small, and is not to be padded.
    """
    parts: collections.deque[tuple[slice, slice]] = collections.deque()
    numbers = itertools.count()

    def placed(image: np.ndarray) -> np.ndarray:
      size = image.shape[:2]
      self._least.refuse(f"picture number {next(numbers)}", size)
      canvas = self._least.canvas(size)
      image, corner = (image, (0, 0)) if canvas == size else surround(image, canvas)
      parts.append(tuple(slice(start, start + side) for start, side in zip(corner, size)))
      return image

    for found in self._segmenter.segment_many(map(placed, images), map(self._least.canvas, sizes)):
      part = parts.popleft()
      yield jax.tree.map(lambda x: np.ascontiguousarray(x[part]), found)  # noqa: B023
