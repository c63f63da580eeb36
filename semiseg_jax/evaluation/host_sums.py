"""Sums of overlapping windows in the memory of a host, where the networks run on its CPU.

Nothing is compiled for the size of a picture: numpy adds the scores, and labels are made of as many
pixels at a time, whatever the picture.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from semiseg_jax.evaluation.bands import Classify

Size = tuple[int, int]
_PIXELS = 1 << 16  # of which labels are made at a time


class HostSums:
  """The sums of one picture, used as `bands.Bands`."""

  is_band = False

  def __init__(
    self, canvas: Size, classes: int, classify: Classify, kept: Any = None, rule: str = ""
  ):
    """Args: size (H, W) of the canvas; channels of scores; the last are arguments of `classify`."""
    self._sums = np.zeros((*canvas, classes), np.float32)
    self._classify, self._gate = classify, {"kept": kept, "rule": rule}
    self._made: Any = None
    self.is_finite = True

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    """Adds scores[start], scores[start + 1], ..., of windows with their top left at `corners`.

    Returns:
      The scores.
    """
    found = np.asarray(scores)
    height, width = found.shape[1:3]
    for i, (top, left) in enumerate(corners, start):
      self._sums[top : top + height, left : left + width] += found[i]
    return scores

  def finish(self) -> None:
    """After the last window."""
    size, pixels = self._sums.shape[:2], self._sums.reshape(1, -1, self._sums.shape[-1])
    parts = [self._part(pixels[:, i : i + _PIXELS]) for i in range(0, pixels.shape[1], _PIXELS)]
    self._sums = None
    join = lambda *some: np.concatenate(some, 1)[0, : size[0] * size[1]]
    joined = jax.tree.map(join, *parts)
    self._made = jax.tree.map(lambda x: x.reshape(*size, *x.shape[1:]), joined)

  def _part(self, scores: np.ndarray) -> Any:
    """What is made of scores [1,n,K], n at most _PIXELS; the rest is made of zeros."""
    missing = _PIXELS - scores.shape[1]
    if missing:
      scores = np.pad(scores, ((0, 0), (0, missing), (0, 0)))
    made, finite = jax.device_get(self._classify(scores, **self._gate))
    self.is_finite &= bool(finite)
    return made

  def fetch(self) -> Any:
    """Returns what `classify` gives, each [H,W,...]; look at `is_finite`, too."""
    return self._made
