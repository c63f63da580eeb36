"""Whole-picture and sliding-window segmentation of pictures of any size."""

import collections
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from tqdm import tqdm

from semiseg_jax.errors import ConfigError, NonFiniteError
from semiseg_jax.evaluation import bands
from semiseg_jax.evaluation.bands import Bands
from semiseg_jax.evaluation.canvases import Canvases, Grid, surround

Size = tuple[int, int]
# (images uint8 [B,h,w,C], valid int32 [B,4]) -> scores float32 [B,h,w,K]; compiled by its maker.
Forward = Callable[[np.ndarray, np.ndarray], jax.Array]


class ClassGate(Protocol):
  """Says which classes a picture, uint8 [H,W,C], may have: bool [K]; `rule`: see `gated`."""

  rule: str

  def __call__(self, image: np.ndarray) -> jax.Array:
    """Returns the classes that are kept."""


_MANY_SIZES = 4
_AHEAD = 2  # finished pictures left on the device while the next ones are read
_CALLS_AHEAD = 2  # of the network, before the host waits: each holds its windows and scores
LARGE = 1 << 25  # pixels of a picture above which no other is held beside it


def plan(size: Size, window: Size, stride: Size) -> list[tuple[int, int]]:
  """Top left corners (y, x) of the windows over a canvas of `size`, row by row.

  A last window that would cross the border is shifted back to end at it.
  """
  rows, columns = (_starts(*axis) for axis in zip(size, window, stride))
  return [(y, x) for y in rows for x in columns]


def _starts(length: int, window: int, stride: int) -> list[int]:
  count = max(0, math.ceil((length - window) / stride)) + 1
  return [min(i * stride, max(0, length - window)) for i in range(count)]


def place(image: np.ndarray, window: Size) -> tuple[np.ndarray, tuple[int, int, int, int], Size]:
  """Puts a picture [H,W,C] on a canvas that holds at least one window.

  A picture that fits into the window is padded centrally, and what is outside `valid` becomes
  zero after normalization. A larger one is padded with raw zeros (black, which normalization
  changes) along a side shorter than the window, and `valid` covers everything.

  Returns:
    canvas uint8 [H',W',C]; valid (y0, x0, y1, x1) of each window; (top, left) of the picture.
  """
  height, width = image.shape[:2]
  canvas_height, canvas_width = max(height, window[0]), max(width, window[1])
  top, left = (canvas_height - height) // 2, (canvas_width - width) // 2
  if (canvas_height, canvas_width) == (height, width):
    canvas = image
  else:
    canvas = np.zeros((canvas_height, canvas_width, image.shape[2]), image.dtype)
    canvas[top : top + height, left : left + width] = image
  fits = height <= window[0] and width <= window[1]
  valid = (top, left, top + height, left + width) if fits else (0, 0, *window)
  return canvas, valid, (top, left)


class Segmenter:
  """Labels for pictures of any size from a network that sees one size of window.

  Windows of consecutive pictures are packed into batches of one fixed shape, so the network
  compiles once whatever the sizes of the pictures; the last batch is filled with empty windows.
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
    grid: Grid | None = None,
    batch: int = 1,
    num_classes: int,
    confidence: bool = False,
    probabilities: bool = False,
    classify: bands.Classify | None = None,
    gate: ClassGate | None = None,
  ):
    """Args: see the class; `stride` defaults to ceil(2/3 of the window) along each side.

    The `gate` takes classes away from whole pictures, after their windows were summed.

    With `confidence` the scores must be probabilities, and every picture gives a pair: labels, and
    the rounded 255-fold of their mean probability over the windows, uint8 [H,W] each.  So they must
    with `probabilities`; the pair is labels and the mean probabilities, float32 [H,W,K].  With
    `classify` a picture gives what that makes of its scores; num_classes counts these.

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
    if window is not None and grid is not None:
      raise ValueError("a grid is for whole pictures; windows have one size")
    self.window, self.stride = window, None
    if window is not None:
      self.stride = _checked_stride(window, stride)
    self.batch, self.num_classes = batch, num_classes
    self._classify = bands.labels_and_confidence if confidence else bands.labels
    if probabilities:
      self._classify = bands.labels_and_probabilities
    self._classify = classify or self._classify
    self._forward, self._gate = forward, gate
    self._sizes: set[Size] = set()  # of whole pictures
    self._calls: collections.deque[jax.Array] = collections.deque()  # ready when they are done
    self._grid, self._canvases = grid, grid and Canvases(grid)

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
    waiting, rows = collections.deque(), []
    sizes = tuple(sizes)
    canvases = Canvases(self._grid, sizes) if self._grid and sizes else self._canvases
    numbers, images = itertools.count(), iter(images)
    try:
      while (picture := self._next(images, next(numbers), canvases)) is not None:
        waiting.append(picture)
        for corner in picture.corners:
          if rows and not rows[0][0].batches_with(picture):
            self._run(rows)
            rows = []
          rows.append((picture, corner))
          if len(rows) == self.batch:
            self._run(rows)
            rows = []
        if picture.is_large and rows:  # it is not kept until others fill the batch
          self._run(rows)
          rows = []
        del picture  # before others are read
        while waiting and (
          waiting[0].is_large and waiting[0].finished or sum(p.finished for p in waiting) > _AHEAD
        ):
          yield waiting.popleft().fetch()
      if rows:
        self._run(rows)
      while waiting:
        yield waiting.popleft().fetch()
    finally:
      self._calls.clear()  # of a device that ran out of memory they would fail again

  def _next(
    self, images: Iterator[np.ndarray], number: int, canvases: Canvases | None
  ) -> "_Picture | None":
    image = next(images, None)
    if image is None:
      return None
    picture = _Picture(image, number, self.window, self.stride, canvases)
    gate = (self._gate(image), self._gate.rule) if self._gate is not None else ()
    picture.begin(self.num_classes, self._classify, *gate)
    if self.window is None and canvases is None:
      self._sizes.add(picture.size)
      if len(self._sizes) > _MANY_SIZES:
        _tell_many_sizes()
    return picture

  def _run(self, rows: Sequence[tuple["_Picture", tuple[int, int]]]) -> None:
    height, width = rows[0][0].window
    images = np.zeros((self.batch, height, width, rows[0][0].canvas.shape[2]), np.uint8)
    valid = np.zeros((self.batch, 4), np.int32)
    for i, (picture, (y, x)) in enumerate(rows):
      images[i] = picture.canvas[y : y + height, x : x + width]
      valid[i] = picture.valid
    scores = self._forward(images, valid)
    expected = (self.batch, height, width, self.num_classes)
    if scores.shape != expected:
      raise ValueError(
        f"forward returned scores {scores.shape} for windows {images.shape}, expected {expected}"
      )
    if scores.sharding.is_fully_replicated:
      scores = scores.addressable_data(0)  # one device sums, the others need not repeat it
    start = 0
    for _, row in itertools.groupby(rows, lambda row: (row[0].number, row[1][0])):
      pictures, corners = zip(*row)
      added = pictures[0].add(scores, start, corners)
      start += len(corners)
    self._calls.append(added)
    if len(self._calls) > _CALLS_AHEAD:
      self._calls.popleft().block_until_ready()


class _Picture:
  """One picture on its way: its windows, and the bands of their scores."""

  def __init__(
    self,
    image: np.ndarray,
    number: int,
    window: Size | None,
    stride: Size | None,
    canvases: Canvases | None,
  ):
    if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape:
      raise ValueError(
        f"picture number {number} is {image.dtype} {image.shape}; the segmenter takes uint8 [H,W,C]"
      )
    self.size = image.shape[:2]
    self.window = self.size if window is None else window
    if canvases:
      self.window = canvases.fit(self.size)
      self.canvas, self.offset = surround(image, self.window)
      self.valid = (0, 0, *self.window)
    else:
      self.canvas, self.valid, self.offset = place(image, self.window)
    self.channels = image.shape[2]
    self.corners = plan(self.canvas.shape[:2], self.window, stride or self.window)
    self.number, self.finished, self._left = number, False, len(self.corners)

  def begin(self, num_classes: int, *classify: Any) -> None:
    self._bands = Bands(self.canvas.shape[:2], self.window, num_classes, *classify)

  @property
  def is_large(self) -> bool:
    return self.size[0] * self.size[1] > LARGE

  def batches_with(self, other: "_Picture") -> bool:
    return self.window == other.window and self.channels == other.channels

  def add(self, scores: jax.Array, start: int, corners: Sequence[tuple[int, int]]) -> jax.Array:
    added = self._bands.add(scores, start, corners)
    self._left -= len(corners)
    if not self._left:
      self._bands.finish()
      self.canvas, self.finished = None, True
    return added

  def fetch(self) -> Any:
    labels = self._bands.fetch()
    if not self._bands.is_finite:
      raise NonFiniteError(
        f"the scores of picture number {self.number} are not finite: the parameters hold NaN or "
        "the network overflows; evaluate an earlier checkpoint"
      )
    (top, left), (height, width) = self.offset, self.size
    cut = lambda x: np.ascontiguousarray(x[top : top + height, left : left + width])
    return jax.tree.map(cut, labels)


@functools.cache
def _tell_many_sizes() -> None:
  if jax.process_index() == 0:
    tqdm.write(  # which does not break a progress line
      "NOTE pictures of many sizes: in mode 'whole' the network is compiled for each of them as it "
      "is; --whole=padded makes do with three (in training --config.eval.whole=padded), mode "
      "'slide' with one (--mode=slide --window=512, in training "
      "--config.eval.mode=slide --config.eval.window=512,512)",
      file=sys.stderr,
    )


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
