"""Crops around pixels of chosen classes, which uniform crops seldom hold.

A class is drawn, each of the picture's alike, then one of its pixels, then a crop among those that
hold it: nnU-Net's oversampling of the foreground (Isensee et al., Nature Methods 2021) with a
probability for each crop in place of a share of each batch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from semiseg_jax.data.augment.axes import Axis
from semiseg_jax.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Rare:
  """probability: of a crop around a pixel of `classes`; () = any class of the picture."""

  probability: float
  classes: tuple[int, ...] = ()


def around_rare(
  label: np.ndarray | None,
  axes: Sequence[Axis],
  rng: np.random.Generator,
  rare: Rare,
  *,
  centers: bool,
  flipped: bool,
) -> list[Axis]:
  """Returns the crop (rows, columns), or with `rare.probability` one that holds a rare pixel.

  A picture without a pixel of the classes keeps its crop, and so do pixels that scaling drops.

  Args:
    label: uint8 [H,W] of the whole picture; None = it has none.
    axes: the crop that was drawn.
    rng: the generator; what is drawn here comes after all that a crop draws.
    rare: which classes, how often.
    centers: the rule of the label, see `Axis.nearest`.
    flipped: the axes count in the mirrored picture.
  """
  axes = list(axes)
  if rng.random() >= rare.probability or label is None:
    return axes
  label = label[:, ::-1] if flipped else label
  places = [dataclasses.replace(a, start=0, count=a.scaled).nearest(centers=centers) for a in axes]
  kept = [np.unique(place) for place in places]  # source pixels that are left after scaling
  seen = label[kept[0]][:, kept[1]]
  there = np.bincount(seen.ravel(), minlength=256)
  there[IGNORE] = 0
  present = np.flatnonzero(there)
  possible = [c for c in present if c in rare.classes] if rare.classes else present
  if not len(possible):
    return axes
  chosen = np.flatnonzero(seen == possible[rng.integers(len(possible))])
  pixel = np.unravel_index(chosen[rng.integers(len(chosen))], seen.shape)
  at = [np.searchsorted(place, k[i], "left") for place, k, i in zip(places, kept, pixel)]
  return [_holding(axis, int(i), rng) for axis, i in zip(axes, at)]


def _holding(axis: Axis, at: int, rng: np.random.Generator) -> Axis:
  """A uniform one of the crops that hold the scaled pixel `at`."""
  if axis.scaled <= axis.count:
    return axis
  first, last = max(at - axis.count + 1, 0), min(at, axis.scaled - axis.count)
  return dataclasses.replace(axis, start=int(rng.integers(first, last, endpoint=True)))
