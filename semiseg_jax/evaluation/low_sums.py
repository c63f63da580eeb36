"""Sums of logits of overlapping windows at the resolution of the network, for CPUs.

A network upsamples its logits by a matrix along each axis, of two entries a row, and sums are
linear: so logits are widened along rows, added there while they have the network's few rows, and a
row of the picture is made when its labels are.  A CPU is several times as fast at this as at
products with full matrices and sums of whole windows; an accelerator is not.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.evaluation.bands import bucket
from semiseg_jax.ops.class_gate import gated

Size = tuple[int, int]
_UNROLLED = 64  # classes


@dataclasses.dataclass(frozen=True)
class Low:
  """A network before its upsampling.

  forward: (images uint8 [B,h,w,C], valid int32 [B,4]) -> logits float32 [B,h',w',K].
  matrix: (low side, side) -> the matrix [side, low side] that upsamples them along an axis.
  """

  forward: Callable[[np.ndarray, np.ndarray], jax.Array]
  matrix: Callable[[int, int], np.ndarray]


class LowSums:
  """The sums of one picture, used as `bands.Bands`: windows of one size, labels alone."""

  is_band = False

  def __init__(
    self,
    extent: Size,
    window: Size,
    tops: Sequence[int],
    matrix: Callable[[int, int], np.ndarray],
    kept: jax.Array | None = None,
    rule: str = "",
  ):
    """Args: sizes (H, W) of canvas and windows; first rows of windows; of `Low`; of a gate."""
    self._extent, self._window, self._matrix = extent, window, matrix
    self._rows = {top: number for number, top in enumerate(sorted({*tops}))}
    self._gate = kept, rule
    self._sums: jax.Array | None = None
    self._low_height = 0
    self._made: Any = None
    self.is_finite = True

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    """Adds logits [B,h',w',K] of windows, from scores[start] on, with their top left at `corners`.

    Returns:
      A scalar that is ready when they were added.
    """
    _, self._low_height, low_width, classes = scores.shape
    if self._sums is None:
      width = self._extent[1] if self._extent == self._window else bucket(self._extent[1])
      self._sums = _zeros((len(self._rows) * self._low_height, classes, width))
    places = np.zeros((scores.shape[0], 2), np.int32)
    for i, (top, left) in enumerate(corners, start):
      places[i] = self._rows[top] * self._low_height, left
    range_ = np.array((start, start + len(corners)), np.int32)
    taps = _taps(self._matrix, low_width, self._window[1])
    self._sums, added = _add(self._sums, scores, *jax.device_put((places, range_, taps)))
    return added

  def finish(self) -> None:
    """After the last window; the labels are on their way to the host."""
    height = self._extent[0] if self._extent == self._window else bucket(self._extent[0])
    taps = self._rows_of(height, *_taps(self._matrix, self._low_height, self._window[0]))
    self._made = _labeled(self._sums, jax.device_put(taps), *self._gate)
    for array in jax.tree.leaves(self._made):
      array.copy_to_host_async()
    self._sums = None

  def _rows_of(
    self, height: int, places: np.ndarray, values: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Of which rows of the sums, with which weights, each row of the picture is made.

    Args: rows of the picture; the same of a window.
    """
    side, taps = places.shape
    covered = np.zeros(height, int)
    for top in self._rows:
      covered[top : top + side] += 1
    found = np.zeros((height, covered.max(), taps), np.int32)
    weights = np.zeros(found.shape, np.float32)
    covered[:] = 0
    for top, number in self._rows.items():
      rows = np.arange(top, top + side)
      found[rows, covered[rows]] = places + number * self._low_height
      weights[rows, covered[rows]] = values
      covered[rows] += 1
    return found.reshape(height, -1), weights.reshape(height, -1)

  def fetch(self) -> np.ndarray:
    """Returns labels uint8 [H,W] on the host; look at `is_finite`, too."""
    found, finite = jax.device_get(self._made)
    self.is_finite = bool(finite)
    return found[: self._extent[0], : self._extent[1]]


@functools.lru_cache(maxsize=64)
def _taps(
  matrix: Callable[[int, int], np.ndarray], low: int, side: int
) -> tuple[np.ndarray, np.ndarray]:
  """The entries of a matrix that are not 0: places int32 [side,t], values float32 [side,t]."""
  full = matrix(low, side)
  count = int((full != 0).sum(1).max())
  places = np.sort(np.argsort(full == 0, 1, kind="stable")[:, :count], 1).astype(np.int32)
  return places, np.take_along_axis(full, places, 1).astype(np.float32)


def labels(
  logits: jax.Array,
  size: Size,
  matrix: Callable[[int, int], np.ndarray],
  kept: jax.Array | None,
  rule: str,
) -> tuple[jax.Array, jax.Array]:
  """Labels uint8 [B,H,W] of whole pictures of `size` (H, W), and whether all is finite, bool [B].

  As `LowSums` makes them of one window, inside of a program.

  Args:
    logits: [B,h',w',K].
    size: of the pictures.
    matrix: of `Low`.
    kept, rule: of a gate, bool [B,K]; or None.
  """
  rows, columns = (_taps(matrix, low, side) for low, side in zip(logits.shape[1:3], size))
  one = lambda low, of_low: _labeled(_widened(low, columns), rows, of_low, rule)
  return jax.vmap(one, in_axes=(0, None if kept is None else 0))(logits, kept)


def _widened(logits: jax.Array, taps: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Logits [h',w',K] as [h',K,w]."""
  columns, values = taps
  low = jnp.swapaxes(logits, 1, 2)
  return sum(
    jnp.take(low, columns[:, t], axis=2, mode="clip") * values[None, None, :, t]
    for t in range(columns.shape[1])
  )


@functools.partial(jax.jit, static_argnums=0)
def _zeros(shape: tuple[int, ...]) -> jax.Array:
  return jnp.zeros(shape, jnp.float32)


@functools.partial(jax.jit, donate_argnums=0)
def _add(
  sums: jax.Array,
  scores: jax.Array,
  places: jax.Array,
  range_: jax.Array,
  taps: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """Adds scores[i], widened, to the sums at places[i] for i in [range_[0], range_[1]), in place."""

  def add(i: jax.Array, sums: jax.Array) -> jax.Array:
    wide = _widened(scores[i], taps)
    at = (places[i, 0], jnp.int32(0), places[i, 1])
    before = jax.lax.dynamic_slice(sums, at, wide.shape)
    return jax.lax.dynamic_update_slice(sums, before + wide, at)

  return jax.lax.fori_loop(range_[0], range_[1], add, sums), range_.sum()


@functools.partial(jax.jit, static_argnames="rule")
def _labeled(
  sums: jax.Array,
  taps: tuple[jax.Array, jax.Array],
  kept: jax.Array | None = None,
  rule: str = "",
) -> tuple[jax.Array, jax.Array]:
  """Labels uint8 [H,W], a row at a time, and whether all is finite."""

  def row(_: None, tap: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
    places, values = tap
    parts = (
      jax.lax.dynamic_index_in_dim(sums, places[t], 0, keepdims=False) * values[t]
      for t in range(places.shape[0])
    )
    total = sum(parts)
    return None, _argmax(total if kept is None else gated(total.T, kept, rule).T)

  return jax.lax.scan(row, None, taps)[1], jnp.isfinite(sums).all()


def _argmax(scores: jax.Array) -> jax.Array:
  """Of [K,W] the first class with the highest score, uint8 [W]: faster on a CPU than jnp.argmax."""
  if scores.shape[0] > _UNROLLED:
    return jnp.argmax(scores, 0).astype(jnp.uint8)
  best, found = scores[0], jnp.zeros(scores.shape[1], jnp.int32)
  for k in range(1, scores.shape[0]):
    is_better = scores[k] > best
    best, found = jnp.where(is_better, scores[k], best), jnp.where(is_better, k, found)
  return found.astype(jnp.uint8)
