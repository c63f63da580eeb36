"""Evaluates a list of labeled pictures of a dataset."""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from semiseg_jax import memory
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.records import Example
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import bootstrap, calibration
from semiseg_jax.evaluation.boundary import count_boundary
from semiseg_jax.evaluation.calibration import Certainty
from semiseg_jax.evaluation.confusion import count_picture, overlaps
from semiseg_jax.evaluation.extremes import MOST, Extremes
from semiseg_jax.evaluation.pictures import Shown, reduced
from semiseg_jax.evaluation.together import Together
from semiseg_jax.evaluation.windows import LARGE, Segmenter
from semiseg_jax.progress import Progress
from semiseg_jax.wording import counted

A, B = TypeVar("A"), TypeVar("B")
_READERS = 8
_COUNTED_LATE = 2  # pictures, which are held until they are counted


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """confusion: int64 [C,C], rows truth.  shown: the pictures asked for, with predictions.

  pictures: how many were evaluated.  of_pictures: int64 [P,3,C], `confusion.overlaps` of each.
  boundary: int64 [3,C], the same near contours, see `boundary`.  certainty: by probability, where
  that was asked for.  extremes: the worst and the best of the pictures.
  """

  confusion: np.ndarray
  shown: list[Shown]
  pictures: int
  of_pictures: np.ndarray | None = None
  boundary: np.ndarray | None = None
  certainty: Certainty | None = None
  extremes: Extremes | None = None

  @functools.cached_property
  def interval(self) -> bootstrap.Interval | None:
    """The 95 % interval of the mIoU over pictures; None where it cannot be told."""
    return None if self.of_pictures is None else bootstrap.interval(self.of_pictures)


def evaluate_ids(
  segmenter: Segmenter,
  dataset: Dataset | JoinedDataset,
  ids: Sequence[str],
  *,
  pictures: int,
  title: str,
  certain: bool = False,
) -> Evaluation:
  """Segments the pictures `ids` and counts them against their labels at original size.

  Args:
    segmenter: the network on windows.
    dataset: where the pictures are.
    ids: all must have labels.
    pictures: so many, evenly spread over the list, are kept for a sheet; and as many of the worst
      and of the best, `extremes.MOST` at most.
    title: of the progress line.
    certain: whether the segmenter gives labels with their probabilities, which are counted.

  Raises:
    DataError: an id that is not there, a picture without a label, or no ids at all.
    EvaluationError, OutOfStepError: of several processes, see `together`.
  """
  indices = labeled_indices(dataset, ids)
  classes = len(dataset.info.classes)
  wanted = set(np.linspace(0, len(ids) - 1, min(pictures, len(ids))).round().astype(int).tolist())
  extremes = Extremes(min(pictures, MOST), classes)
  ahead: collections.deque[Example] = collections.deque()
  sizes = sizes_of(dataset, indices)

  def images() -> Iterator[np.ndarray]:
    # By map, as a name in here would hold a picture while the next one is read.
    read = functools.partial(together.read, dataset)
    return map(noted, read_ahead(read, indices, sizes))

  def noted(example: Example) -> np.ndarray:
    ahead.append(example)
    return example.image

  def counted(number: int, segmented: np.ndarray | tuple[np.ndarray, np.ndarray]) -> None:
    example = ahead.popleft()
    prediction = segmented[0] if certain else segmented
    p = segmented[1] if certain else None
    late = _COUNTED_LATE if prediction.size <= LARGE else 0
    counting.append(pool.submit(sums.add, example.label, prediction, p))
    _await(counting, late)
    if number in wanted:
      shown.append(reduced(Shown(example.id, example.image, example.label, prediction)))
    extremes.take(Shown(example.id, example.image, example.label, prediction))

  def current() -> str:
    return f"picture {ahead[0].id!r}" if ahead else str(dataset.root)

  sums, shown, counting = _Sums(classes), [], collections.deque()
  # One thread, so that pictures are counted in their order while the next are segmented.
  pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="count")
  named = memory.named(current)
  with Together() as together, pool, Progress(len(ids), title=title) as progress, named:
    found = segmenter.segment_many(images(), sizes)
    for number in range(len(ids)):
      segmented = next(found)
      with together.kept():
        counted(number, segmented)
      del segmented  # before the next is made
      progress.advance()
    with together.kept():
      _await(counting, 0)
  of_pictures = np.stack(sums.of_pictures)
  return Evaluation(
    sums.confusion, shown, len(ids), of_pictures, sums.boundary, sums.certainty, extremes
  )


def _await(counting: collections.deque[concurrent.futures.Future], late: int) -> None:
  """Waits until at most `late` are not done; raises what they raised."""
  while len(counting) > late:
    counting.popleft().result()


class _Sums:
  """Counts over pictures; its attributes are those of `Evaluation`."""

  def __init__(self, classes: int):
    self._classes = classes
    self.confusion = np.zeros((classes, classes), np.int64)
    self.boundary = np.zeros((3, classes), np.int64)
    self.of_pictures: list[np.ndarray] = []
    self.certainty: Certainty | None = None

  def add(self, label: np.ndarray, prediction: np.ndarray, p: np.ndarray | None) -> None:
    """Counts a picture; p are the probabilities of its prediction, None where nobody asks."""
    counts = count_picture(label, prediction, self._classes)
    self.confusion += counts
    self.of_pictures.append(overlaps(counts))
    self.boundary += count_boundary(label, prediction, self._classes)
    if p is not None:
      found = calibration.count(label, prediction, p, self._classes)
      self.certainty = self.certainty + found if self.certainty else found


def sizes_of(pool: Dataset | JoinedDataset, indices: Sequence[int]) -> list[tuple[int, int]]:
  """Returns (H, W) of pictures; none where a dataset does not tell before they are read."""
  return [pool.info.sizes[index] for index in indices] if pool.info.sizes else []


def labeled_indices(dataset: Dataset | JoinedDataset, ids: Sequence[str]) -> list[int]:
  """Returns the places of pictures; DataError where one has no label, is not there, or none is."""
  if not ids:
    raise DataError(f"there is nothing to evaluate in {dataset.root}: the list is empty")
  indices = [dataset.index(id_) for id_ in ids]
  unlabeled = [id_ for id_, index in zip(ids, indices) if not dataset.info.labeled[index]]
  if unlabeled:
    raise DataError(
      f"{len(unlabeled)} of {counted(len(ids), 'picture')} in {dataset.root} "
      f"{'has' if len(unlabeled) == 1 else 'have'} no label, the first is {unlabeled[0]!r}: take "
      "what has none off the evaluated list"
    )
  return indices


def read_ahead(
  read: Callable[[A], B], items: Iterable[A], sizes: Iterable[tuple[int, int] | None] = ()
) -> Iterator[B]:
  """Yields read(item) in order while threads read the next ones.

  `sizes`, (H, W) of the items where they are known: of large ones none is read ahead.
  """
  workers = min(_READERS, os.cpu_count() or 1)
  pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="read")
  waiting: collections.deque[tuple[int, concurrent.futures.Future[B]]] = collections.deque()
  known = itertools.chain(sizes, itertools.repeat(None))
  pixels = (size[0] * size[1] if size else 0 for size in known)
  try:
    for item, count in zip(items, pixels, strict=False):
      while waiting and sum(n for n, _ in waiting) + count > LARGE:
        yield waiting.popleft()[1].result()
      waiting.append((count, pool.submit(read, item)))
      if len(waiting) > workers:
        yield waiting.popleft()[1].result()
    while waiting:
      yield waiting.popleft()[1].result()
  finally:
    pool.shutdown(cancel_futures=True)
