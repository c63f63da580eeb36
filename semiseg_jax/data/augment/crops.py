"""Random crops of training pictures in uint8, by the rules of a family."""

import dataclasses
from collections.abc import Callable

import numpy as np

from semiseg_jax.data.augment.axes import Axis, draw_axis
from semiseg_jax.data.augment.rare import Rare, around_rare
from semiseg_jax.data.augment.reading import Region, flip_columns, read_crop
from semiseg_jax.data.augment.sizes import Size
from semiseg_jax.data.records import Example, Record
from semiseg_jax.labels import IGNORE

Fields = dict[str, np.ndarray]
_ATTEMPTS = 10  # of AdvSemiSeg, to scale a picture to at least the crop


@dataclasses.dataclass(frozen=True)
class Family:
  """What the published code of a family does, in the order of the fields.

  Attributes:
    flip_first: mirror the picture before scaling it, instead of the padded crop.
    size: ((H, W), rng, scales, base_size) -> (h, w) after scaling.
    kernel: of the image, see reading.KERNELS.
    nearest_centers: the rule of the label and of maps, see `Axis.nearest`.
    place: where a small picture lies in the crop, see `draw_axis`.
  """

  flip_first: bool
  size: Callable[[Size, np.random.Generator, tuple[float, ...], int], Size]
  kernel: str
  nearest_centers: bool
  place: str


@dataclasses.dataclass(frozen=True)
class Rules:
  """A family with the numbers of a config.

  Attributes:
    family: see Family.
    crop: (h, w) of the result.
    scales, base_size: what `family.size` draws from.
    flip: the probability of mirroring.
    fill: the level of the padding, one per channel; empty = 0.
    beyond: pixels that a crop's offset may go too far, see `draw_axis`.
    rare: classes that random crops are laid around; None = none.
  """

  family: Family
  crop: Size
  scales: tuple[float, ...]
  flip: float
  base_size: int = 0
  fill: tuple[int, ...] = ()
  beyond: int = 0
  rare: Rare | None = None


def random_crop(picture: Example | Record, rng: np.random.Generator, *, rules: Rules) -> Fields:
  """One crop: mirror, scale, crop and pad, or scale, crop, pad and mirror.

  With `rules.rare` the crop may be moved to a rare class, see `around_rare`; all else of it is what
  it is without.

  Returns:
    `image` uint8 [h, w, C]; `label` uint8 [h, w], IGNORE in the padding and everywhere in an
    unlabeled picture; `valid` int32 [4], y0, x0, y1, x1 of the real pixels; and the picture's maps
    by their names, each with its own fill in the padding.
  """
  family = rules.family
  flipped = family.flip_first and rng.random() < rules.flip
  scaled = family.size(picture.size, rng, rules.scales, rules.base_size)
  y, x = draw_axes(picture.size, scaled, rng, rules)
  mirrored = not family.flip_first and rng.random() < rules.flip
  if rules.rare:
    label = picture.label() if isinstance(picture, Record) else picture.label
    centers = family.nearest_centers
    y, x = around_rare(label, (y, x), rng, rules.rare, centers=centers, flipped=flipped)
  return cut(picture, y, x, rules, flipped=flipped, mirrored=mirrored)


def filled_crop(picture: Example | Record, rng: np.random.Generator, *, rules: Rules) -> Fields:
  """As `random_crop` of a picture that covers the crop, so that nothing is padded.

  The factor is drawn up to ten times, each on top of those before, until both sides reach the
  crop; a picture that is still smaller is scaled to exactly the crop (AdvSemiSeg's ground truth
  for its discriminator).  The published code resamples at each attempt, this one once.
  """
  scaled = picture.size
  for _ in range(_ATTEMPTS):
    scaled = rules.family.size(scaled, rng, rules.scales, rules.base_size)
    if all(n >= c for n, c in zip(scaled, rules.crop)):
      break
  else:
    scaled = rules.crop
  y, x = draw_axes(picture.size, scaled, rng, rules)
  return cut(picture, y, x, rules, flipped=False, mirrored=rng.random() < rules.flip)


def whole_picture(picture: Example | Record, rng: np.random.Generator, *, rules: Rules) -> Fields:
  """As `random_crop`, but all of the picture: resized to the crop, mirrored by chance."""
  return resized(picture, rules, mirrored=rng.random() < rules.flip)


def resized(picture: Example | Record, rules: Rules, *, mirrored: bool = False) -> Fields:
  """The fields of `random_crop` of the whole picture at the crop's size; its aspect is not kept."""
  y, x = (Axis(n, c, 0, c, 0) for n, c in zip(picture.size, rules.crop))
  return cut(picture, y, x, rules, flipped=False, mirrored=mirrored)


def draw_axes(size: Size, scaled: Size, rng: np.random.Generator, rules: Rules) -> list[Axis]:
  """A uniform crop of the scaled picture: its rows, then its columns."""
  return [
    draw_axis(n, s, c, rng, place=rules.family.place, beyond=rules.beyond)
    for n, s, c in zip(size, scaled, rules.crop)
  ]


def cut(
  picture: Example | Record | Region,
  y: Axis,
  x: Axis,
  rules: Rules,
  *,
  flipped: bool,
  mirrored: bool,
) -> Fields:
  """The fields of `random_crop`, of the crop (y, x).

  Args:
    picture: what is cut.
    y: rows of the crop.
    x: its columns.
    rules: kernel, size and padding.
    flipped: mirror the picture before it is scaled; x counts in the mirrored one.
    mirrored: mirror the padded crop.
  """
  family = rules.family
  part = read_crop(
    picture,
    y,
    x,
    kernel=family.kernel,
    nearest_centers=family.nearest_centers,
    flipped=flipped,
  )
  crop = _padded_crop(part, y, x, rules)
  left, right = x.pad, x.pad + x.count
  if mirrored:
    crop = flip_columns(crop)
    left, right = rules.crop[1] - right, rules.crop[1] - left
  valid = np.array([y.pad, left, y.pad + y.count, right], np.int32)
  label = np.full(rules.crop, IGNORE, np.uint8) if crop.label is None else crop.label
  maps = {name: map.values for name, map in crop.maps.items()}
  return {"image": crop.image, "label": label, "valid": valid, **maps}


def _padded_crop(part: Example, y: Axis, x: Axis, rules: Rules) -> Example:
  def padded(values: np.ndarray, fill: int) -> np.ndarray:
    deep = values if values.ndim > 2 else values[..., None]
    return _padded(deep, y, x, rules.crop, (fill,)).reshape(*rules.crop, *values.shape[2:])

  return part.derive(_padded(part.image, y, x, rules.crop, rules.fill), padded)


def _padded(pixels: np.ndarray, y: Axis, x: Axis, crop: Size, fill: tuple[int, ...]) -> np.ndarray:
  if pixels.shape[:2] == crop:
    return pixels
  out = np.zeros((*crop, pixels.shape[2]), np.uint8)
  if any(fill):
    out[:] = fill
  out[y.pad : y.pad + y.count, x.pad : x.pad + x.count] = pixels
  return out
