"""Sums of logits of overlapping windows at the resolution of the network, for CPUs.

A network upsamples its logits by a matrix along each axis, of two entries a row, and sums are
linear: so logits are widened along rows, added there while they have the network's few rows, and a
row of the picture is made when its labels are.  A CPU is several times as fast at this as at
products with full matrices and sums of whole windows; an accelerator is not.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

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


def covering(window: int, stride: int) -> int:
  """At most so many windows lie over a pixel along an axis; the last may be shifted back."""
  return -(-window // stride) + 1


class LowSums:
  """The sums of one picture, used as `bands.Bands`: windows of one size, labels alone.

  They lie in panels as wide as a window, each of as many rows of windows as cover a pixel: what is
  above the next row of windows becomes labels.  So the programs are the same whatever the picture.
  """

  is_band = False

  def __init__(
    self,
    extent: Size,
    window: Size,
    stride: Size,
    matrix: Callable[[int, int], np.ndarray],
    kept: jax.Array | None = None,
    rule: str = "",
    spare: list[jax.Array] | None = None,
  ):
    """Args: sizes (H, W) of canvas, of windows and their steps; of `Low`; of a gate.

    `spare`: panels of finished pictures, to which its own are added; memory costs time when new.
    """
    self._spare = [] if spare is None else spare
    self._extent, self._window, self._matrix = extent, window, matrix
    self._cover = covering(window[0], stride[0])
    self._kept, self._rule = kept, rule
    self._tops: list[int] = []  # of the rows of windows so far
    self._panels: list[jax.Array | None] = [None] * -(-extent[1] // window[1])
    self._labels = np.zeros(extent, np.uint8)
    self._flying: list[tuple[int, int, int, jax.Array]] = []
    self._finite: list[jax.Array] = []
    self.is_finite = True

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    """Adds logits [B,h',w',K] of windows, from scores[start] on, with their top left at `corners`.

    Those of one call are of one row of windows, and the rows come in order.

    Returns:
      A scalar that is ready when they were added.
    """
    top, width = corners[0][0], self._window[1]
    if not self._tops or top > self._tops[-1]:
      self._release(top)
      self._tops.append(top)
      self._fresh = {*range(len(self._panels))}
    for k in range(len(self._panels)):
      over = {i: left - k * width for i, (_, left) in enumerate(corners, start)}
      over = {i: left for i, left in over.items() if abs(left) < width}
      if over:
        added = self._add(k, scores, over)
    return added

  def _add(self, k: int, scores: jax.Array, over: dict[int, int]) -> jax.Array:
    """Adds scores[i] of windows that begin over[i] columns from the left of panel k."""
    count, self._low_height, low_width, classes = scores.shape
    if self._panels[k] is None:
      shape = (self._cover * self._low_height, classes, self._window[1])
      spare = self._spare.pop() if self._spare else np.zeros(shape, np.float32)
      self._panels[k] = jax.device_put(spare, scores.sharding)  # as those of later calls
    taps = [
      _moved_taps(self._matrix, low_width, self._window[1], over.get(i, 0)) for i in range(count)
    ]
    slot = (len(self._tops) - 1) % self._cover * self._low_height
    where = np.array((min(over), max(over) + 1, slot, k in self._fresh), np.int32)
    self._fresh.discard(k)
    columns_and_values = map(np.stack, zip(*taps))
    self._panels[k], finite = _add(self._panels[k], scores, where, *columns_and_values)
    self._finite.append(finite)
    return finite

  def _release(self, end: int) -> None:
    """Rows above `end` are complete from the last row of windows on; they become labels."""
    if not self._tops:
      return
    begin, (height, width) = self._tops[-1], self._window
    over = [n for n, top in enumerate(self._tops) if top + height > begin]
    taps = _taps(self._matrix, self._low_height, height)
    count = taps[0].shape[1]
    places = np.zeros((height, self._cover * count), np.int32)
    weights = np.zeros(places.shape, np.float32)
    for j, n in enumerate(over):
      first = begin - self._tops[n]  # row of this window that is the first of these
      some, part = slice(first, first + end - begin), slice(j * count, (j + 1) * count)
      many = len(taps[0][some])
      places[:many, part] = taps[0][some] + n % self._cover * self._low_height
      weights[:many, part] = taps[1][some]
    how = places, weights, np.int32(end - begin), np.bool_(len(over) < self._cover), self._kept
    for k, panel in enumerate(self._panels):
      made = _labeled(panel, *how, few=(self._cover - 1) * count, rule=self._rule)
      made.copy_to_host_async()
      self._flying.append((begin, end, k * width, made))

  def finish(self) -> None:
    """After the last window; the labels are on their way to the host."""
    self._release(self._extent[0])
    self._spare += self._panels
    self._panels = []

  def fetch(self) -> np.ndarray:
    """Returns labels uint8 [H,W] on the host; look at `is_finite`, too."""
    for top, end, left, made in self._flying:
      labels = np.asarray(made)[: end - top, : self._extent[1] - left]
      self._labels[top:end, left : left + self._window[1]] = labels
    self._flying = []
    self.is_finite = all(map(bool, self._finite))
    return self._labels


@functools.lru_cache(maxsize=64)
def _taps(
  matrix: Callable[[int, int], np.ndarray], low: int, side: int
) -> tuple[np.ndarray, np.ndarray]:
  """The entries of a matrix that are not 0: places int32 [side,t], values float32 [side,t]."""
  full = matrix(low, side)
  count = int((full != 0).sum(1).max())
  places = np.sort(np.argsort(full == 0, 1, kind="stable")[:, :count], 1).astype(np.int32)
  return places, np.take_along_axis(full, places, 1).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _moved_taps(
  matrix: Callable[[int, int], np.ndarray], low: int, side: int, left: int
) -> tuple[np.ndarray, np.ndarray]:
  """Those of `_taps` for a window that begins `left` from its place; 0 where it is not."""
  places, values = _taps(matrix, low, side)
  if not left:
    return places, values
  moved = np.zeros_like(places), np.zeros_like(values)
  to, some = (slice(left, side), slice(0, side - left))
  if left < 0:
    to, some = slice(0, side + left), slice(-left, side)
  moved[0][to], moved[1][to] = places[some], values[some]
  return moved


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

  def one(low: jax.Array, of_low: jax.Array | None) -> jax.Array:
    wide = _widened(jnp.swapaxes(low, 1, 2), columns)
    row = lambda _, tap: (None, _labels_of_row(wide, *tap, of_low, rule))
    return jax.lax.scan(row, None, rows)[1]

  found = jax.vmap(one, in_axes=(0, None if kept is None else 0))(logits, kept)
  return found, jnp.isfinite(logits).all((1, 2, 3))


def _widened(low: jax.Array, taps: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Logits [...,K,w'] as [...,K,w]."""
  (columns, values), some = taps, range(low.ndim - 1)
  return sum(
    jnp.take(low, columns[:, t], axis=-1, mode="clip") * jnp.expand_dims(values[:, t], some)
    for t in range(columns.shape[1])
  )


@functools.partial(jax.jit, donate_argnums=0)
def _add(
  panel: jax.Array, scores: jax.Array, where: jax.Array, columns: jax.Array, values: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Adds scores[i], widened, to a panel from a row on, in place.

  Args:
    panel: [r,K,w].
    scores: logits [B,h',w',K].
    where: for i from where[0] up to where[1], from row where[2] on; what is there already counts
      as zero where where[3] is 1.
    columns, values: int32 and float32 [B,w,t], the entries by which they are widened.

  Returns:
    The panel, and whether the scores that were added are finite.
  """
  first, end, row, is_new = where

  def add(i: jax.Array, panel: jax.Array) -> jax.Array:
    low, taps = jnp.swapaxes(scores[i], 1, 2), (columns[i], values[i])
    count_zero = (is_new == 1) & (i == first)

    def add_row(y: jax.Array, panel: jax.Array) -> jax.Array:  # by rows it stays in the cache
      wide, at = _widened(low[y], taps)[None], (row + y, jnp.int32(0), jnp.int32(0))
      before = jax.lax.dynamic_slice(panel, at, wide.shape)
      return jax.lax.dynamic_update_slice(panel, jnp.where(count_zero, 0, before) + wide, at)

    return jax.lax.fori_loop(0, low.shape[0], add_row, panel)

  unused = (jnp.arange(len(scores)) < first) | (jnp.arange(len(scores)) >= end)
  finite = (jnp.isfinite(scores).all((1, 2, 3)) | unused).all()
  return jax.lax.fori_loop(first, end, add, panel), finite


@functools.partial(jax.jit, static_argnames=("few", "rule"))
def _labeled(
  panel: jax.Array,
  places: jax.Array,
  values: jax.Array,
  rows: jax.Array,
  are_few: jax.Array,
  kept: jax.Array | None,
  *,
  few: int,
  rule: str,
) -> jax.Array:
  """Labels uint8 [h,w] of which the first `rows` are made, one after the other.

  Args:
    panel: sums [r,K,w].
    places, values: int32 and float32 [h,t], of which rows each is the weighted sum.
    rows: how many are made.
    are_few: whether only the first `few` of the t count.
    few: see there.
    kept, rule: of a gate.
  """

  def made(count: int) -> jax.Array:
    def put(y: jax.Array, labels: jax.Array) -> jax.Array:
      row = _labels_of_row(panel, places[y, :count], values[y, :count], kept, rule)
      return jax.lax.dynamic_update_slice(labels, row[None], (y, jnp.int32(0)))

    empty = jnp.zeros((places.shape[0], panel.shape[2]), jnp.uint8)
    return jax.lax.fori_loop(0, rows, put, empty)

  return jax.lax.cond(are_few, lambda: made(few), lambda: made(places.shape[1]))


def _labels_of_row(
  sums: jax.Array, places: jax.Array, values: jax.Array, kept: jax.Array | None, rule: str
) -> jax.Array:
  """Labels uint8 [w] of the weighted sum of some rows of sums [r,K,w]."""
  total = sum(
    jax.lax.dynamic_index_in_dim(sums, places[t], 0, keepdims=False) * values[t]
    for t in range(places.shape[0])
  )
  return _argmax(total if kept is None else gated(total.T, kept, rule).T)


def _argmax(scores: jax.Array) -> jax.Array:
  """Of [K,W] the first class with the highest score, uint8 [W]: faster on a CPU than jnp.argmax."""
  if scores.shape[0] > _UNROLLED:
    return jnp.argmax(scores, 0).astype(jnp.uint8)
  best, found = scores[0], jnp.zeros(scores.shape[1], jnp.int32)
  for k in range(1, scores.shape[0]):
    is_better = scores[k] > best
    best, found = jnp.where(is_better, scores[k], best), jnp.where(is_better, k, found)
  return found.astype(jnp.uint8)
