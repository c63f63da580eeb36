"""Which classes the labels of a list show, before a run begins: none is no list to learn from."""

import contextlib
import dataclasses
import functools

import numpy as np

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.run import labeled_indices, read_ahead
from semiseg_jax.progress import track
from semiseg_jax.training import class_counts
from semiseg_jax.wording import counted

_SAID_AFTER_S = 5.0  # a list that takes longer to read gets a line of progress


def check_labeled(dataset: Dataset, ids: IdList) -> IdList:
  """Returns the labeled list with a note on the classes that it does not show.

  Raises:
    DataError: no pixel of it has a class, or a label is damaged.
  """
  absent = _absent(dataset, ids, "labeled")
  return _noted(ids, absent and f"no labeled picture shows {absent}: no network can learn it")


def check_evaluated(dataset: Dataset, ids: IdList) -> IdList:
  """The same of the list that is evaluated, all of whose pictures must have a label."""
  labeled_indices(dataset, ids.ids)
  absent = _absent(dataset, ids, "val")
  return _noted(
    ids, absent and f"no evaluated picture shows {absent}: the scores do not speak of it"
  )


def _noted(ids: IdList, note: str) -> IdList:
  return dataclasses.replace(ids, notes=(*ids.notes, note)) if note else ids


def _absent(dataset: Dataset, ids: IdList, use: str) -> str:
  found = shown(dataset, ids)
  if not found.any():
    raise DataError(
      f"data.{use}: no pixel of list {ids.place!r} ({counted(len(ids.ids), 'picture')}) of "
      f"{dataset.root} has "
      "a class, all are ignored: name another list, or prepare the dataset with labels for them"
    )
  return ", ".join(name for name, there in zip(dataset.info.classes, found) if not there)


def shown(dataset: Dataset, ids: IdList) -> np.ndarray:
  """Returns of each class whether a label of the list shows it, bool [C].

  Of a list that is stored with the dataset it is known; of another one labels are read until every
  class was seen that the dataset has.

  Raises:
    DataError: a damaged label.
  """
  info, classes = dataset.info, len(dataset.info.classes)
  if info.lists.get(ids.name) == ids.ids and ids.name in info.list_pixels:
    return np.array(info.list_pixels[ids.name][:classes]) > 0
  counted = np.array(info.class_pixels[:classes])
  possible = counted > 0 if counted.any() else np.ones(classes, bool)
  found = np.zeros(classes, bool)
  label_of = functools.partial(class_counts.label, dataset)
  labels = read_ahead(label_of, [dataset.index(id_) for id_ in ids.ids])
  title = f"classes of {ids.name}"
  with contextlib.closing(labels):
    for label in track(labels, total=len(ids.ids), title=title, delay=_SAID_AFTER_S):
      found |= np.bincount(label.ravel(), minlength=256)[:classes] > 0
      if found[possible].all():
        break
  return found
