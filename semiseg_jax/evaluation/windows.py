"""Whole-picture and sliding-window segmentation of pictures of any size."""

import collections
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from semiseg_jax.errors import ConfigError, NonFiniteError
from semiseg_jax.evaluation import bands, long_notes, placing, whole_batches
from semiseg_jax.evaluation.bands import Bands
from semiseg_jax.evaluation.canvases import Canvases, Grid
from semiseg_jax.evaluation.host_sums import HostSums
from semiseg_jax.evaluation.low_sums import Low, LowSums, covering
from semiseg_jax.evaluation.placing import Place, Tile

Size = tuple[int, int]
# (images uint8 [B,h,w,C], valid int32 [B,4]) -> scores float32 [B,h,w,K]; compiled by its maker.
Forward = Callable[[np.ndarray, np.ndarray], jax.Array]


class ClassGate(Protocol):
  """Says which classes a picture, uint8 [H,W,C], may have: bool [K]; `rule`: see `gated`."""

  rule: str

  def __call__(self, image: np.ndarray) -> jax.Array:
    """Returns the classes that are kept."""


_COVERING = 5  # windows over a pixel along an axis, up to which logits are added before upsampling
_ALONE = 1 << 17  # pixels of a window from which a CPU sees one at a time
_AHEAD = 2  # finished pictures left on the device while the next ones are read
_CALLS_AHEAD = 2  # of the network, before the host waits: each holds its windows and scores
LARGE = 1 << 25  # pixels of a picture above which no other is held beside it


class Segmenter:
  """Labels for pictures of any size from a network that sees one size of window.

  Windows of several pictures are packed into batches of one fixed shape, so the network compiles
  once whatever the sizes of the pictures; the last batch is filled with empty windows.  Windows
  that the border cuts, and whole pictures, wait for others of their shape.
  Scores of overlapping windows are summed on the device (equal counts per pixel and class, so
  the argmax is that of the mean) and only the labels come back. A picture needs a band of rows
  there, as high as a window and of one of a few widths, see `bands`.

  With `window=None` the window is the picture itself.  On a `grid` it is a canvas around the
  picture, one of few, see `Canvases`.  Without one the network compiles per picture size; a process
  that does so for many sizes says once on stderr how to avoid it.

  A segmenter holds no compiled program: build a new one around new parameters freely, as long as
  `forward` passes its parameters as arguments of its own jitted function.
  """

  def __init__(
    self,
    forward: Forward,
    *,
    window: Size | None,
    stride: Size | int | None = None,
    border: str = "shifted",
    grid: Grid | None = None,
    several: Grid | None = None,
    reflected: int = 0,
    batch: int = 1,
    num_classes: int,
    confidence: bool = False,
    probabilities: bool = False,
    gate: ClassGate | None = None,
    classify: bands.Classify | None = None,
    low: Low | None = None,
  ):
    """Args: see the class; `stride` defaults to ceil(2/3 of the window) along each side.

    `border`: of windows, see `placing.BORDERS`.  `reflected`: whole pictures are mirrored at their
    border up to multiples of it, 0 = they are not.  `several`: the grid of whole pictures where
    they are of several sizes; those of one size, or of the first that comes, go without.

    `low`: the same network before its upsampling, whose logits are added where they are few; only
    for labels alone of windows that are not cut.

    The `gate` takes classes away from whole pictures, after their windows were summed.

    With `confidence` the scores must be probabilities, and every picture gives a pair: labels, and
    the rounded 255-fold of their mean probability over the windows, uint8 [H,W] each.  So they must
    with `probabilities`; the pair is labels and the mean probabilities, float32 [H,W,K].  What is
    made of summed scores in any other way is said by `classify`.

    Raises:
      ConfigError: a stride outside [1, window] (it would leave gaps).
      ValueError: batch < 1, or classes outside [1, 255] (labels are uint8, 255 means ignored).
    """
    if classify is None and not 1 <= num_classes <= 255:
      raise ValueError(f"num_classes must be in [1, 255], got {num_classes}")
    if batch < 1:
      raise ValueError(f"batch must be at least 1, got {batch}")
    if window is None and stride is not None:
      raise ValueError("a stride needs a window; whole pictures have none")
    if window is not None and (grid is not None or several is not None or reflected):
      raise ValueError("a grid is for whole pictures; windows have one size")
    self.window, self.stride = window, None
    self._border, self._reflected = placing.IN_WINDOWS[border], reflected
    if window is not None:
      self.stride = _checked_stride(window, stride)
    self.batch, self.num_classes = batch, num_classes
    self._classify = bands.labels_and_confidence if confidence else bands.labels
    if probabilities:
      self._classify = bands.labels_and_probabilities
    self._classify = classify or self._classify
    self._forward, self._gate = forward, gate
    is_plain = self._classify is bands.labels and border != "cut"
    # Small steps: windows have more rows of logits than the picture has rows.
    is_plain = is_plain and max(map(covering, window or (1, 1), self.stride or (1, 1))) <= _COVERING
    self._low = low if is_plain else None
    self._spare: list[jax.Array] = []  # of `LowSums`
    self._sizes: set[Size] = set()  # of whole pictures
    self._calls: collections.deque[jax.Array] = collections.deque()  # ready when they are done
    self._grid, self._canvases = grid, grid and Canvases(grid)
    self._several, self._one_size = several, set()
    self._several_canvases = several and Canvases(several, at_most=1)
    self._is_told = self._is_timed = False

  def __call__(self, image: np.ndarray) -> np.ndarray:
    """Labels uint8 [H,W] of one picture uint8 [H,W,C]."""
    return next(self.segment_many([image]))

  def segment_many(
    self, images: Iterable[np.ndarray], sizes: Iterable[Size] = ()
  ) -> Iterator[np.ndarray]:
    """Labels uint8 [H,W] of each picture uint8 [H,W,C], in order.

    Reads at most a batch of windows and a few pictures ahead of what it yields.  `sizes`, (H, W) of
    what will come: the canvases of whole pictures follow from them alone, whatever came before.

    Raises:
      ValueError: a picture is not uint8 [H,W,C] or is empty, or `forward` returns a wrong shape.
      NonFiniteError: the scores of a picture hold a NaN or an infinity.
    """
    waiting = collections.deque()
    sizes = tuple(sizes)
    place = self._place(sizes)
    self._tell_shapes({*sizes})
    packed = _Packed(self._batch_of, self._run)
    numbers, images = itertools.count(), iter(images)
    try:
      while (picture := self._next(images, next(numbers), place)) is not None:
        waiting.append(picture)
        packed.add(picture)
        if picture.is_large:  # it is not kept until others fill the batch
          packed.flush()
        del picture  # before others are read
        if self._waits_long(waiting):
          packed.flush(of=next(p for p in waiting if not p.finished))
        done = sum(p.finished for p in waiting)
        while waiting and waiting[0].finished and (waiting[0].is_large or done > _AHEAD):
          done -= 1
          yield waiting.popleft().fetch()
      packed.flush()
      while waiting:
        yield waiting.popleft().fetch()
    finally:
      self._calls.clear()  # of a device that ran out of memory they would fail again

  def _waits_long(self, waiting: Iterable["_Picture"]) -> bool:
    """Whether the first picture that is not finished waits for others of its shape no longer."""
    pixels = [math.prod(p.size) for p in waiting if not p.finished]
    done = sum(p.finished for p in waiting)
    is_full = len(pixels) > 2 * self.batch or sum(pixels) > LARGE or done > _AHEAD + self.batch
    return bool(pixels) and is_full

  def _batch_of(self, shape: Size) -> int:
    """Of windows of a shape; a CPU is a fifth faster at large ones one by one."""
    is_alone = getattr(self._forward, "is_alone_on_cpu", False) and math.prod(shape) >= _ALONE
    return 1 if is_alone else self.batch

  def _place(self, sizes: Sequence[Size]) -> Place:
    """How pictures are placed; `sizes` of those that come, where they are known."""
    if self.window is not None:
      return lambda image: self._border(image, self.window, self.stride)
    if self._grid is not None:
      canvases = Canvases(self._grid, sizes) if sizes else self._canvases
      return lambda image: placing.on_canvas(image, canvases)
    as_it_is = placing.whole
    if self._reflected:
      as_it_is = functools.partial(placing.reflected, multiple=self._reflected)
    if self._several is None:
      return as_it_is
    canvases, one = self._several_canvases, self._one_size
    if sizes:
      canvases, one = Canvases(self._several, sizes), {*sizes} if len({*sizes}) == 1 else {None}

    def place(image: np.ndarray) -> placing.Placed:
      size = image.shape[:2]
      if not one:
        one.add(size)
      if size in one:
        return as_it_is(image)
      long_notes.of_padding()
      return placing.on_canvas(image, canvases)

    return place

  def _tell_shapes(self, sizes: set[Size]) -> None:
    """Says before they come for how many shapes the network is compiled."""
    if self.window is None and self._grid is None and self._several is None:
      multiple = self._reflected or 1
      shapes = {tuple(-(-side // multiple) for side in size) for size in sizes}
      if len(shapes) > long_notes.FEW:
        long_notes.of_sizes(len(shapes))
        self._is_told = True
    elif self._border is placing.cut:
      shapes = set().union(*(placing.cut_shapes(x, self.window, self.stride) for x in sizes))
      if len(shapes) >= long_notes.FEW:
        long_notes.of_cut_windows(len(shapes))

  def _tell_windows(self, picture: "_Picture", image: np.ndarray) -> None:
    """Says how long a picture of very many windows takes, by a second batch of empty ones."""
    count = len(picture.placed.tiles)
    if count < long_notes.MANY or self._is_timed:
      return
    self._is_timed, seconds, batch = True, 0.0, self._batch_of(self.window)
    empty = (
      np.zeros((batch, *self.window, image.shape[2]), np.uint8),
      np.zeros((batch, 4), np.int32),
    )
    for _ in range(2):
      start = time.perf_counter()
      jax.block_until_ready(self._forward(*empty))
      seconds = (time.perf_counter() - start) * count / batch
    long_notes.of_windows(image.shape[:2], self.window, self.stride, count, seconds)

  def _next(self, images: Iterator[np.ndarray], number: int, place: Place) -> "_Picture | None":
    image = next(images, None)
    if image is None:
      return None
    picture = _Picture(image, number, place)
    gate = (self._gate(image), self._gate.rule) if self._gate is not None else ()
    if self.window is None:
      picture.begin_whole(*gate)
    else:
      self._tell_windows(picture, image)
      low = self._low and functools.partial(
        LowSums, window=self.window, stride=self.stride, matrix=self._low.matrix, spare=self._spare
      )
      picture.begin(self.num_classes, self._classify, low, *gate)
    if self.window is None and self._grid is None:
      self._sizes.add(picture.placed.window)
      if len(self._sizes) > long_notes.FEW and not self._is_told:
        long_notes.of_sizes()
    return picture

  def _run(self, rows: Sequence[tuple["_Picture", Tile]]) -> None:
    height, width = rows[0][1].shape
    batch = self._batch_of((height, width))
    images = np.zeros((batch, height, width, rows[0][0].channels), np.uint8)
    valid = np.zeros((batch, 4), np.int32)
    for i, (picture, tile) in enumerate(rows):
      y, x = tile.corner
      images[i] = picture.placed.canvas[y : y + height, x : x + width]
      valid[i] = tile.valid
    run = self._run_whole if self.window is None else self._run_windows
    self._calls.append(run(rows, images, valid))
    if len(self._calls) > _CALLS_AHEAD:
      self._calls.popleft().block_until_ready()

  def _run_whole(
    self, rows: Sequence[tuple["_Picture", Tile]], images: np.ndarray, valid: np.ndarray
  ) -> jax.Array:
    """One program does all that follows as well, where the network has such a one."""
    pictures = [picture for picture, _ in rows]
    classified = getattr(self._forward, "classified", None)
    if classified is None:
      classified = functools.partial(self._classified_apart, self._forward)
    kept, rule = whole_batches.kept_of([p.gate for p in pictures], len(images))
    made, finite = classified(images, valid, kept, self._classify, rule)
    batch = whole_batches.Batch(made, finite)
    for i, picture in enumerate(pictures):
      picture.finish_whole(batch, i)
    return finite

  def _classified_apart(self, forward: Forward, images: np.ndarray, valid: np.ndarray, *how: Any):
    return whole_batches.classified(self._checked(forward(images, valid), images), *how)

  def _run_windows(
    self, rows: Sequence[tuple["_Picture", Tile]], images: np.ndarray, valid: np.ndarray
  ) -> jax.Array:
    is_low = rows[0][0].is_low
    scores = (self._low.forward if is_low else self._forward)(images, valid)
    scores = scores if is_low else self._checked(scores, images)
    start = 0
    for _, row in itertools.groupby(rows, lambda row: (row[0].number, row[1].corner[0])):
      pictures, tiles = zip(*row)
      added = pictures[0].add(scores, start, [tile.corner for tile in tiles])
      start += len(tiles)
    return added

  def _checked(self, scores: jax.Array, images: np.ndarray) -> jax.Array:
    """Scores on one device, which sums; ValueError where their shape is wrong."""
    expected = (*images.shape[:3], self.num_classes)
    if scores.shape != expected:
      raise ValueError(
        f"forward returned scores {scores.shape} for windows {images.shape}, expected {expected}"
      )
    return scores.addressable_data(0) if scores.sharding.is_fully_replicated else scores


class _Packed:
  """Tiles of several pictures on their way into batches, a batch for each shape."""

  def __init__(
    self, batch_of: Callable[[Size], int], run: Callable[[list[tuple["_Picture", Tile]]], None]
  ):
    self._batch_of, self._run = batch_of, run
    self._rows: dict[tuple[int, ...], list[tuple[_Picture, Tile]]] = {}

  def add(self, picture: "_Picture") -> None:
    for tile in picture.placed.tiles:
      shape = (*tile.shape, picture.channels, picture.is_low)
      if picture.in_order:
        for other in [key for key in self._rows if key != shape]:
          self._flush(other)
      rows = self._rows.setdefault(shape, [])
      rows.append((picture, tile))
      if len(rows) == self._batch_of(tile.shape):
        self._flush(shape)

  def flush(self, of: "_Picture | None" = None) -> None:
    """Runs what waits, all of it or every batch with tiles of a picture."""
    for shape, rows in list(self._rows.items()):
      if of is None or any(picture is of for picture, _ in rows):
        self._flush(shape)

  def _flush(self, shape: tuple[int, ...]) -> None:
    self._run(self._rows.pop(shape))


class _Picture:
  """One picture on its way: its windows, and the bands of their scores."""

  def __init__(self, image: np.ndarray, number: int, place: Place):
    if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape:
      raise ValueError(
        f"picture number {number} is {image.dtype} {image.shape}; the segmenter takes uint8 [H,W,C]"
      )
    self.size, self.channels = image.shape[:2], image.shape[2]
    self.placed = place(image)
    self.number, self.finished, self._left = number, False, len(self.placed.tiles)

  def begin_whole(self, *gate: Any) -> None:
    """It is seen at once; `gate`: which classes it may have, and the rule."""
    self.gate, self.is_low, self._bands = gate, False, None

  def finish_whole(self, batch: whole_batches.Batch, row: int) -> None:
    """It is a row of a batch."""
    self._bands = whole_batches.Row(batch, row)
    self.placed, self.finished = dataclasses.replace(self.placed, canvas=None), True

  def begin(
    self, num_classes: int, classify: Any, low: Callable[..., LowSums] | None, *gate: Any
  ) -> None:
    """It is seen in windows; `low` makes sums of logits before their upsampling."""
    canvas = self.placed.extent, self.placed.window
    self._bands = Bands(*canvas, num_classes, classify, *gate)
    self.is_low = low is not None and not self._bands.is_band
    if self.is_low:
      self._bands = low(canvas[0], **dict(zip(("kept", "rule"), gate)))
    elif not self._bands.is_band and jax.default_backend() == "cpu":
      self._bands = HostSums(self.placed.extent, num_classes, classify, *gate)

  @property
  def is_large(self) -> bool:
    return self.size[0] * self.size[1] > LARGE

  @property
  def in_order(self) -> bool:
    """Whether its windows must be added row by row."""
    return self._bands is not None and self._bands.is_band

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    added = self._bands.add(scores, start, corners)
    self._left -= len(corners)
    if not self._left:
      self._bands.finish()
      self.placed, self.finished = dataclasses.replace(self.placed, canvas=None), True
    return added

  def fetch(self) -> Any:
    labels = self._bands.fetch()
    if not self._bands.is_finite:
      raise NonFiniteError(
        f"the scores of picture number {self.number} are not finite: the parameters hold NaN or "
        "the network overflows; evaluate an earlier checkpoint"
      )
    (top, left), (height, width) = self.placed.offset, self.size
    cut = lambda x: np.ascontiguousarray(x[top : top + height, left : left + width])
    return jax.tree.map(cut, labels)


def default_stride(window: Size) -> Size:
  """Two thirds of the window along each side, rounded up."""
  return tuple(-(-2 * side // 3) for side in window)


def _checked_stride(window: Size, stride: Size | int | None) -> Size:
  if stride is None:
    return default_stride(window)
  stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
  if any(not 1 <= step <= side for step, side in zip(stride, window)):
    raise ConfigError(
      f"stride {stride} must lie in [1, window {window}] along each side, "
      "otherwise pixels between the windows are never seen"
    )
  return stride
