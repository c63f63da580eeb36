"""Evaluates a list of labeled pictures of a dataset."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import DataError
from semiseg_jax.evaluation.confusion import count_picture
from semiseg_jax.evaluation.pictures import Shown
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.progress import track


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """confusion: int64 [C,C], rows truth.  shown: the pictures asked for, with predictions."""

  confusion: np.ndarray
  shown: list[Shown]


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
    DataError: a picture without a label, or none at all.
  """
  if not ids:
    raise DataError(f"there is nothing to evaluate in {dataset.root}: the list is empty")
  classes = len(dataset.info.classes)
  wanted = set(np.linspace(0, len(ids) - 1, min(pictures, len(ids))).round().astype(int).tolist())
  ahead = []

  def images() -> Iterator[np.ndarray]:
    for id_ in ids:
      example = dataset.read(dataset.index(id_))
      if example.label is None:
        raise DataError(f"{id_!r} in {dataset.root} has no label: take it off the evaluated list")
      ahead.append(example)
      yield example.image

  confusion, shown = np.zeros((classes, classes), np.int64), []
  predictions = track(segmenter.segment_many(images()), total=len(ids), title=title)
  for number, prediction in enumerate(predictions):
    example = ahead.pop(0)
    confusion += count_picture(example.label, prediction, classes)
    if number in wanted:
      shown.append(Shown(example.id, example.image, example.label, prediction))
  return Evaluation(confusion, shown)
