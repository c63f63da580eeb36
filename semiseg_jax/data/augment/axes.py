"""One axis of scaling and cropping: which source pixels a crop depends on."""

import dataclasses
import functools
import math

import numpy as np

Window = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Axis:
  """`count` resized pixels from `start` go to `pad` in the crop."""

  source: int  # pixels of the picture
  scaled: int  # pixels after scaling
  start: int
  count: int
  pad: int

  @functools.cached_property
  def grid_window(self) -> tuple[int, int, int]:
    """(first, end, scaled length) of a source window whose resizing falls on the whole's grid.

    With source : scaled = p : q in lowest terms, a window that begins at a multiple of p and has
    a length that is one is resized on the very grid of the whole picture. It holds two source
    pixels more than the crop's own on each side, which kernels of four taps need.
    """
    units = math.gcd(self.source, self.scaled)
    p, q = self.source // units, self.scaled // units
    margin = max(1, -(-2 // p))
    first = max(self.start // q - margin, 0)
    end = min(-(-(self.start + self.count) // q) + margin, units)
    return first * p, end * p, (end - first) * q

  def grid_offset(self) -> int:
    """Where the crop begins in the resized `grid_window`."""
    first, _, _ = self.grid_window
    return self.start - first * self.scaled // self.source

  def support_window(self, taps: float) -> Window:
    """The source pixels within `taps` (of the larger of both grids) of the crop's own."""
    step = self.source / self.scaled
    reach = taps * max(step, 1.0) + 1
    first = max(math.floor(self.start * step - reach), 0)
    return first, min(math.ceil((self.start + self.count) * step + reach), self.source)

  def box(self, window: Window) -> tuple[float, float]:
    """The crop's borders in source pixels, counted from the beginning of `window`."""
    step, (first, end) = self.source / self.scaled, window
    return self.start * step - first, min((self.start + self.count) * step - first, end - first)

  def nearest(self, *, centers: bool) -> np.ndarray:
    """Source pixels of the crop under a nearest rule.

    Args:
      centers: floor((i + 1/2) source / scaled) as Pillow, which adds up the steps; otherwise
        floor(i source / scaled) as OpenCV. The roundings of both count where it is a whole number.
    """
    end = self.start + self.count
    if centers:
      step = self.source / self.scaled
      places = np.cumsum(np.concatenate([[0.5 * step], np.full(end - 1, step)]))[self.start :]
    else:
      places = np.arange(self.start, end) * (1.0 / (self.scaled / self.source))
    return np.minimum(places.astype(np.intp), self.source - 1)


def draw_axis(
  source: int, scaled: int, crop: int, rng: np.random.Generator, *, place: str, beyond: int = 0
) -> Axis:
  """Draws a uniform crop of one axis.

  Args:
    source: pixels of the picture.
    scaled: pixels after scaling.
    crop: pixels asked for.
    rng: the generator.
    place: where a picture shorter than the crop lies in it: 'center' (the smaller half of the
      padding comes first), 'end' (all padding comes last) or 'random'.
    beyond: how far offsets may go past the last whole crop.
  """
  start = int(rng.integers(0, scaled - crop + beyond, endpoint=True)) if scaled > crop else 0
  count = min(crop, scaled - start)
  pad = 0
  if place == "center":
    pad = (crop - count) // 2
  elif place == "random" and count < crop:
    pad = int(rng.integers(0, crop - count, endpoint=True))
  return Axis(source, scaled, start, count, pad)
