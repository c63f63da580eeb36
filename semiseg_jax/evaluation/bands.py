"""Scores of overlapping windows, summed on the device a band of rows at a time.

Windows come row by row.  A band as high as a window holds the sums of one row of windows; row y of
the picture lies at y modulo its height.  What the next row of windows does not touch becomes
labels, and new rows take its place.  So memory grows with the width of a picture and not with its
height, and each pixel's scores are added in the order of the windows, as on a canvas of the whole
picture.  What is small has such a canvas: adding goes a little faster where rows are not turned.
"""

import collections
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.class_gate import gated

Size = tuple[int, int]
# (scores [h,w,K], kept bool [K] or None, rule) -> (arrays [h,w,...], whether all is finite).
Classify = Callable[[jax.Array, jax.Array | None, str], tuple[Any, jax.Array]]
_CANVAS_BYTES = 1 << 28  # of the sums of a whole picture; above, a band is used
_FETCHED_LATE = 2  # finished bands left on the device while the next ones are computed


class Bands:
  """The sums of one picture on the device, and what was made of them on the host."""

  def __init__(
    self,
    canvas: Size,
    window: Size,
    num_classes: int,
    classify: Classify,
    kept: jax.Array | None = None,
    rule: str = "",
  ):
    """Args: sizes (H, W) of the canvas and of its windows; the last are arguments of `classify`."""
    self._canvas, self._window, self._classes = canvas, window, num_classes
    self._classify = functools.partial(classify, kept=kept, rule=rule)
    is_large = math.prod(canvas) * num_classes * 4 > _CANVAS_BYTES
    self.is_band = is_large and canvas[0] > window[0]
    self._band: jax.Array | None = None
    self._top = 0  # row of the picture that is the band's first
    self._fresh = window[0], 0  # rows from below that are new, columns that have them already
    self._flying: collections.deque[tuple[int, int, Any]] = collections.deque()
    self._made: Any = None
    self.is_finite = True

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    """Adds scores[start], scores[start + 1], ..., of windows with their top left at `corners`.

    Of a band they come in the order of `placing.plan`; those of one call are of one row of windows.
    Scores of windows that the border cuts may be smaller; what is cut off counts as zero.

    Returns:
      A scalar that is ready when they were added.
    """
    if self._band is None:
      self._band = _zeros((*self._size(), self._classes))
    if self.is_band and corners[0][0] > self._top:
      self._release(corners[0][0] - self._top)
      self._fresh = corners[0][0] - self._top, 0
      self._top = corners[0][0]
    scores = _full(scores, self._window)
    places = np.zeros((scores.shape[0], 4), np.int32)
    for i, corner in enumerate(corners, start):
      places[i] = self._place(*corner)
    range_ = np.array((start, start + len(corners)), np.int32)
    add = _add_turned if self.is_band else _add_windows
    self._band, added = add(self._band, scores, *jax.device_put((places, range_)))
    return added

  def _size(self) -> Size:
    """Of the band, one of a few."""
    if self._canvas == self._window:
      return self._window
    height, width = map(bucket, self._canvas)
    return (self._window[0] if self.is_band else height), width

  def _place(self, top: int, left: int) -> tuple[int, int, int, int]:
    """What `_add_windows` and `_add_turned` take of a window."""
    if not self.is_band:
      return top, left, 0, 0
    new, seen = self._fresh
    self._fresh = new, left + self._window[1]
    return top % self._window[0], left, new, max(0, seen - left)

  def finish(self) -> None:
    """After the last window; the labels are on their way to the host."""
    self._release(self._window[0] if self.is_band else self._canvas[0])
    self._band = None

  def fetch(self) -> Any:
    """Returns what `classify` gives, each [H,W,...] on the host; look at `is_finite`, too."""
    if self._made is None and len(self._flying) == 1:  # the only band is all there is
      height, width = self._canvas
      return jax.tree.map(lambda x: x[:height, :width], self._get()[-1])
    while self._flying:
      self._take()
    return self._made

  def _release(self, rows: int) -> None:
    """The first rows of the band are complete."""
    found = self._classify(self._band)
    for array in jax.tree.leaves(found):
      array.copy_to_host_async()
    self._flying.append((self._top, rows, found))
    while len(self._flying) > _FETCHED_LATE:
      self._take()

  def _get(self) -> tuple[int, int, Any]:
    top, rows, found = self._flying.popleft()
    found, finite = jax.device_get(found)
    self.is_finite &= bool(finite)
    return top, rows, found

  def _take(self) -> None:
    """Puts the oldest rows in their place."""
    top, rows, found = self._get()
    if self._made is None:
      empty = lambda x: np.empty((*self._canvas, *x.shape[2:]), x.dtype)
      self._made = jax.tree.map(empty, found)
    height, wide = self._window[0], self._canvas[1]
    first = min(rows, height - top % height)  # the others have come round
    for made, x in zip(jax.tree.leaves(self._made), jax.tree.leaves(found), strict=True):
      made[top : top + first] = x[top % height :][:first, :wide]
      made[top + first : top + rows] = x[: rows - first, :wide]


def bucket(length: int) -> int:
  """Rounds up to four leading binary digits: eight sizes per octave, at most 1/8 larger."""
  step = 1 << max(0, length.bit_length() - 4)
  return -(-length // step) * step


@functools.partial(jax.jit, static_argnums=0)
def _zeros(shape: tuple[int, ...]) -> jax.Array:
  return jnp.zeros(shape, jnp.float32)


def _full(scores: jax.Array, window: Size) -> jax.Array:
  """Scores [B,h,w,K] of parts of windows as those of windows."""
  return scores if scores.shape[1:3] == window else _padded(scores, window)


@functools.partial(jax.jit, static_argnums=1)
def _padded(scores: jax.Array, window: Size) -> jax.Array:
  missing = [(0, side - there) for side, there in zip(window, scores.shape[1:3])]
  return jnp.pad(scores, ((0, 0), *missing, (0, 0)))


@functools.partial(jax.jit, donate_argnums=0)
def _add_windows(
  canvas: jax.Array, scores: jax.Array, places: jax.Array, range_: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Adds scores[i] to the canvas at places[i, :2] for i in [range_[0], range_[1]), in place."""

  def add(i: jax.Array, canvas: jax.Array) -> jax.Array:
    at = (places[i, 0], places[i, 1], jnp.int32(0))
    before = jax.lax.dynamic_slice(canvas, at, scores.shape[1:])
    return jax.lax.dynamic_update_slice(canvas, before + scores[i], at)

  return jax.lax.fori_loop(range_[0], range_[1], add, canvas), range_.sum()


@functools.partial(jax.jit, donate_argnums=0)
def _add_turned(
  band: jax.Array, scores: jax.Array, places: jax.Array, range_: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Adds scores[i] to the band for i in [range_[0], range_[1]), in place.

  places [B,4]: the band's row of the window's first one; its left column; how many of its last
  rows are new in the band; from which of its columns on they are.  What lies there is old.
  """
  height, width = scores.shape[1:3]
  y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]

  def add(i: jax.Array, band: jax.Array) -> jax.Array:
    turn, left, new, fresh = places[i]
    at = (jnp.int32(0), left, jnp.int32(0))
    before = jax.lax.dynamic_slice(band, at, scores.shape[1:])
    is_new = ((y - turn) % height >= height - new) & (x >= fresh)
    sums = jnp.where(is_new[..., None], 0, before) + jnp.roll(scores[i], turn, axis=0)
    return jax.lax.dynamic_update_slice(band, sums, at)

  return jax.lax.fori_loop(range_[0], range_[1], add, band), range_.sum()


@functools.partial(jax.jit, static_argnames="rule")
def labels(
  scores: jax.Array, kept: jax.Array | None = None, rule: str = ""
) -> tuple[jax.Array, jax.Array]:
  """Labels uint8 [h,w] of scores [h,w,K], with a gate as `ops.class_gate.gated` has it."""
  chosen = scores if kept is None else gated(scores, kept, rule)
  return jnp.argmax(chosen, -1).astype(jnp.uint8), jnp.isfinite(scores).all()


@functools.partial(jax.jit, static_argnames="rule")
def labels_and_confidence(
  scores: jax.Array, kept: jax.Array | None = None, rule: str = ""
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  """Labels and the 255-fold of their mean probability, uint8 [h,w] each.

  Probabilities of a window sum to 1, so those of a pixel to the number of its windows.  A gate
  takes the probabilities of classes away and adds nothing to the others.
  """
  found, finite = labels(scores, kept, rule)
  chosen = scores if kept is None else gated(scores, kept, rule)
  share = chosen.max(-1) / jnp.maximum(scores.sum(-1), 1e-12)
  return (found, jnp.round(255 * share).astype(jnp.uint8)), finite


@functools.partial(jax.jit, static_argnames="rule")
def labels_and_probabilities(
  scores: jax.Array, kept: jax.Array | None = None, rule: str = ""
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  """Labels and probabilities [h,w,K]; those of kept classes are made to sum to 1 again."""
  found, finite = labels(scores, kept, rule)
  chosen = scores if kept is None else jnp.maximum(gated(scores, kept, rule), 0)
  return (found, chosen / jnp.maximum(chosen.sum(-1, keepdims=True), 1e-12)), finite
