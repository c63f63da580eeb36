"""Two overlapping crops of one picture (CAC, Lai et al., CVPR 2021)."""

import numpy as np

from semiseg_jax.data.augment.axes import Axis, Window
from semiseg_jax.data.augment.crops import Fields, Rules, cut
from semiseg_jax.data.augment.reading import Region, windows
from semiseg_jax.data.augment.sizes import Size
from semiseg_jax.data.records import Example, Record

STRIDE = 8  # the second crop lies on the first one's grid of this many pixels
_TRIES = 50
_MIN_OVERLAP = 0.1  # intersection over union
Origin = tuple[int, int]


def random_pair(picture: Example | Record, rng: np.random.Generator, *, rules: Rules) -> Fields:
  """Two crops of the picture at one scale, on a common grid of 8 pixels, each mirrored or not.

  The crop's sides must be multiples of 8.

  Returns:
    `image`, `label`, `valid` and the maps of the first crop (see `random_crop`), `image_2`,
    `label_2`, `valid_2` and the maps (NAME_2) of the second, and `geometry` int32 [6]: dy, dx, vh,
    vw, flip_1, flip_2.  Before mirroring, pixel (r, c) of crop 1 is pixel (r - dy, c - dx) of crop
    2 where both lie in the crop and in the first vh rows and vw columns: the largest multiples of
    8 within the scaled picture, beyond which there is padding.
  """
  scaled = rules.family.size(picture.size, rng, rules.scales, rules.base_size)
  first, second = draw_origins(scaled, rules.crop, rng)
  mirrored = [bool(rng.random() < rules.flip) for _ in range(2)]
  axes = [_axes(picture.size, scaled, rules.crop, origin) for origin in (first, second)]
  spans = [windows(y, x, rules.family.kernel) for y, x in axes]
  region = Region(picture, _hull(*(s[0] for s in spans)), _hull(*(s[1] for s in spans)))
  one, two = (
    cut(region, y, x, rules, flipped=False, mirrored=flip) for (y, x), flip in zip(axes, mirrored)
  )
  dy, dx = second[0] - first[0], second[1] - first[1]
  vh, vw = (STRIDE * (side // STRIDE) for side in scaled)
  geometry = np.array([dy, dx, vh, vw, *mirrored], np.int32)
  return {**one, **{f"{name}_2": field for name, field in two.items()}, "geometry": geometry}


def draw_origins(scaled: Size, crop: Size, rng: np.random.Generator) -> tuple[Origin, Origin]:
  """Draws the (y, x) of both crops in a picture of `scaled` pixels.

  The first is uniform.  The second is uniform too, moved to the first one's grid, and drawn again,
  up to 50 times, until the crops overlap by a tenth of their union; then it is the first.
  """
  last_y, last_x = (max(n - c, 0) for n, c in zip(scaled, crop))
  x1 = int(rng.integers(0, last_x, endpoint=True))
  y1 = int(rng.integers(0, last_y, endpoint=True))
  for _ in range(_TRIES):
    x2 = _on_grid(int(rng.integers(0, last_x, endpoint=True)), x1)
    y2 = _on_grid(int(rng.integers(0, last_y, endpoint=True)), y1)
    if _overlap_enough(y2 - y1, x2 - x1, crop):
      return (y1, x1), (y2, x2)
  return (y1, x1), (y1, x1)


def _on_grid(drawn: int, first: int) -> int:
  snapped = (drawn - first) // STRIDE * STRIDE + first
  return snapped + STRIDE if snapped < 0 else snapped


def _overlap_enough(dy: int, dx: int, crop: Size) -> bool:
  height, width = crop[0] - abs(dy), crop[1] - abs(dx)
  inter = height * width
  return height > 0 and width > 0 and inter / (2 * crop[0] * crop[1] - inter) >= _MIN_OVERLAP


def _axes(size: Size, scaled: Size, crop: Size, origin: Origin) -> list[Axis]:
  return [
    Axis(n, s, start, min(c, s - start), 0) for n, s, c, start in zip(size, scaled, crop, origin)
  ]


def _hull(a: Window, b: Window) -> Window:
  return min(a[0], b[0]), max(a[1], b[1])
