"""Sums over pixels in whole numbers, so that no order of pictures changes the mean."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

_LEVELS = np.arange(256, dtype=np.int64)
_LEAST_STD = 1 / 255  # of a band that is the same everywhere: one gray level
_AT_ONCE = 1 << 22  # pixels, for memory
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Moments:
  """Of one picture: the number of its pixels with data, and per channel sum and sum of squares."""

  count: int
  sums: tuple[int, ...]
  squares: tuple[int, ...]

  @classmethod
  def of(cls, pixels: np.ndarray, valid: np.ndarray | None = None) -> "Moments":
    """Of uint8 [H, W, C], where bool [H, W] is true."""
    rows = pixels.reshape(-1, pixels.shape[2])
    if valid is not None:
      rows = rows[valid.reshape(-1)]
    counts = np.zeros((rows.shape[1], 256), np.int64)
    for start in range(0, len(rows), _AT_ONCE):
      part = rows[start : start + _AT_ONCE]
      counts += np.stack([np.bincount(band, minlength=256) for band in part.T])
    return cls(len(rows), tuple((counts @ _LEVELS).tolist()), tuple((counts @ _LEVELS**2).tolist()))


def statistics(parts: Iterable[Moments]) -> dict[str, Any] | None:
  """Mean and std per channel, as shares of 255, of all pixels; None where there are none."""
  parts = [part for part in parts if part.count]
  if not parts:
    return None
  count = sum(part.count for part in parts)
  sums, squares = (
    [sum(values) for values in zip(*(getattr(part, name) for part in parts))]
    for name in ("sums", "squares")
  )
  # count^2 times the variance, exact.
  spread = [count * square - total * total for total, square in zip(sums, squares)]
  return {
    "pictures": len(parts),
    "pixels": count,
    "mean": [round(total / count / 255, _DIGITS) for total in sums],
    "std": [max(round(math.sqrt(s) / count / 255, _DIGITS), _LEAST_STD) for s in spread],
  }
