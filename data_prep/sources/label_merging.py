"""Several masks of one picture -> one label."""

import re
from collections.abc import Sequence

import numpy as np

from data_prep.sources.folder_pairs import Mask
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted


def class_of(mask: Mask, names: Sequence[str]) -> int | None:
  """The class that the name of a mask, or one of its folders, ends in but for a number."""
  words = {_plain(name): index for index, name in enumerate(names)}
  for part in reversed(mask.about.split("/")):
    plain = _plain(part)
    for word in (plain, re.sub(r"_?\d+$", "", plain)):
      if word in words:
        return words[word]
  return None


def _plain(name: str) -> str:
  return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def merge_values(labels: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
  """Joins labels uint8 [H, W] of classes: what one leaves at class 0, another may fill.

  A class goes before ignored pixels, and these before class 0.

  Raises:
    DataError: masks of several sizes, or two classes for one pixel.
  """
  joined, *others = labels
  for label, path in zip(others, paths[1:], strict=True):
    _check_size(label, joined, path, paths[0])
    is_class, had_class = ((x != 0) & (x != IGNORE) for x in (label, joined))
    clash = is_class & had_class & (label != joined)
    if clash.any():
      y, x = np.argwhere(clash)[0]
      raise DataError(
        f"{path}: {counted(int(clash.sum()), 'pixel is', 'pixels are')} of another class in "
        f"{paths[0]} or the masks after "
        f"it, the first in column {x} of row {y}; decide in one of them"
      )
    empty = (joined == 0) & (label == IGNORE)
    joined = np.where(is_class | empty, label, joined)
  return joined


def merge_classes(
  masks: Sequence[np.ndarray], classes: Sequence[int], paths: Sequence[str], rest: int
) -> np.ndarray:
  """Joins masks [H, W] of single classes, all but 0 in them; a later class covers an earlier one.

  Args:
    masks: of any integers.
    classes: the class of each.
    paths: of the files.
    rest: what pixels in no mask get.

  Returns:
    uint8 [H, W].
  """
  label = np.full(masks[0].shape, rest, np.uint8)
  for index in np.argsort(classes, kind="stable"):
    _check_size(masks[index], label, paths[index], paths[0])
    label[masks[index] != 0] = classes[index]
  return label


def _check_size(label: np.ndarray, first: np.ndarray, path: str, other: str) -> None:
  if label.shape != first.shape:
    raise DataError(
      f"{path}: {label.shape[1]}x{label.shape[0]} pixels, {other} of the same picture "
      f"{first.shape[1]}x{first.shape[0]}; make them one size"
    )
