"""Evaluates a list of labeled pictures of a dataset."""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.records import Example
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.confusion import count_picture
from semiseg_jax.evaluation.pictures import Shown
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.progress import track

A, B = TypeVar("A"), TypeVar("B")
_READERS = 8


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """confusion: int64 [C,C], rows truth.  shown: the pictures asked for, with predictions.

  pictures: how many were evaluated.
  """

  confusion: np.ndarray
  shown: list[Shown]
  pictures: int


def evaluate_ids(
  segmenter: Segmenter, dataset: Dataset, ids: Sequence[str], *, pictures: int, title: str
) -> Evaluation:
  """Segments the pictures `ids` and counts them against their labels at original size.

  Args:
    segmenter: the network on windows.
    dataset: where the pictures are.
    ids: all must have labels.
    pictures: so many, evenly spread over the list, are kept for a sheet.
    title: of the progress line.

  Raises:
    DataError: an id that is not there, a picture without a label, or no ids at all.
  """
  indices = labeled_indices(dataset, ids)
  classes = len(dataset.info.classes)
  wanted = set(np.linspace(0, len(ids) - 1, min(pictures, len(ids))).round().astype(int).tolist())
  ahead: collections.deque[Example] = collections.deque()

  def images() -> Iterator[np.ndarray]:
    for example in read_ahead(dataset.read, indices):
      ahead.append(example)
      yield example.image

  confusion, shown = np.zeros((classes, classes), np.int64), []
  found = segmenter.segment_many(images(), sizes_of(dataset, indices))
  predictions = track(found, total=len(ids), title=title)
  for number, prediction in enumerate(predictions):
    example = ahead.popleft()
    confusion += count_picture(example.label, prediction, classes)
    if number in wanted:
      shown.append(Shown(example.id, example.image, example.label, prediction))
  return Evaluation(confusion, shown, len(ids))


def sizes_of(pool: Dataset | JoinedDataset, indices: Sequence[int]) -> list[tuple[int, int]]:
  """Returns (H, W) of pictures; none where a dataset does not tell before they are read."""
  return [pool.info.sizes[index] for index in indices] if pool.info.sizes else []


def labeled_indices(dataset: Dataset, ids: Sequence[str]) -> list[int]:
  """Returns the places of pictures; DataError where one has no label, is not there, or none is."""
  if not ids:
    raise DataError(f"there is nothing to evaluate in {dataset.root}: the list is empty")
  indices = [dataset.index(id_) for id_ in ids]
  unlabeled = [id_ for id_, index in zip(ids, indices) if not dataset.info.labeled[index]]
  if unlabeled:
    raise DataError(
      f"{len(unlabeled)} of {len(ids)} pictures in {dataset.root} have no label, the first is "
      f"{unlabeled[0]!r}: take them off the evaluated list"
    )
  return indices


def read_ahead(read: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
  """Yields read(item) in order while threads read the next ones."""
  workers = min(_READERS, os.cpu_count() or 1)
  pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="read")
  waiting: collections.deque[concurrent.futures.Future[B]] = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(read, item))
      if len(waiting) > workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
