"""How far a mIoU would move with other pictures: an interval from the pictures that there are.

The list is drawn anew, picture by picture with replacement, and the mIoU of what was drawn is
taken from the sums of its pixels; the interval lies between percentiles of these.  Source: Efron,
Annals of Statistics 7 (1979); the percentile interval, An Introduction to the Bootstrap (1993),
chapter 13.

It tells of the choice of pictures alone: not of the training's seed, and of no class, place or
weather that the list does not show.  Pictures of one sequence are alike, and so the interval is
too narrow for them; so is that of few pictures.
"""

import dataclasses
import zlib
from typing import Any

import numpy as np

from semiseg_jax.evaluation.confusion import mean_iou

RESAMPLES = 1000
LEVEL = 0.95
FEW = 30  # pictures below which the interval is said to be too narrow
_AT_A_TIME = 50  # resamples


@dataclasses.dataclass(frozen=True)
class Interval:
  """low, high: fractions.  pictures: that were drawn from.  resamples: how often.

  rare: indices of the classes that some resamples do not have, where they drop out of the mean.
  """

  low: float
  high: float
  pictures: int
  resamples: int
  rare: tuple[int, ...] = ()

  def as_dict(self) -> dict[str, Any]:
    """For a result file."""
    return {
      "low": self.low,
      "high": self.high,
      "level": LEVEL,
      "method": "percentile bootstrap over pictures",
      "resamples": self.resamples,
      "pictures": self.pictures,
    }


def interval(pixels: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
  """The 95 % interval of the mIoU of a list; None of fewer than two pictures with labels.

  Args:
    pixels: int64 [P,3,C], of each picture as `confusion.overlaps`.
    resamples: lists that are drawn, of P pictures each.
    seed: of the draws.
  """
  labeled = pixels[pixels[:, 1].any(-1)]
  count, _, classes = labeled.shape
  if count < 2:
    return None
  rng = np.random.default_rng((zlib.crc32(b"bootstrap"), seed))
  flat = labeled.reshape(count, -1).astype(np.float64)  # exact below 2**53 pixels
  found, present = [], np.zeros(classes, np.int64)
  for start in range(0, resamples, _AT_A_TIME):
    drawn = min(_AT_A_TIME, resamples - start)
    chosen = rng.integers(0, count, (drawn, count)) + count * np.arange(drawn)[:, None]
    times = np.bincount(chosen.ravel(), minlength=drawn * count).reshape(drawn, count)
    sums = (times.astype(np.float64) @ flat).reshape(drawn, 3, classes)
    found.append(mean_iou(sums))
    present += (sums[:, 1:].sum(1) > 0).sum(0)
  ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
  low, high = np.quantile(np.concatenate(found), ends)
  rare = np.flatnonzero((0 < present) & (present < resamples))
  return Interval(float(low), float(high), count, resamples, tuple(rare.tolist()))
