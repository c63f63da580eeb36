"""Predictions in the ids of the masks that a data set was prepared from."""

from typing import Any

import numpy as np

from semiseg_jax.errors import OptionError
from semiseg_jax.labels import IGNORE

IDS = ("train", "source")


def table(ids: str, about: dict[str, Any]) -> np.ndarray:
  """Returns [K], what is written for each class, of 8 bits where these hold all ids, else of 16.

  Args:
    ids: 'train' for 0 to K - 1, or 'source' for those that masks had before the preparation.
    about: the data set of a trained run, as its checkpoints describe it.

  Raises:
    DataError: the ids of the source are not known.
  """
  classes = about["classes"]
  values = range(len(classes)) if ids == "train" else about.get("source_ids") or ()
  if len(values) != len(classes):
    raise OptionError(
      f"--ids=source: data set {about['name']!r} does not say the ids of its masks: it was "
      "prepared from colors (OUT/color has those), from a mask for each class, or before ids were "
      "kept; leave --ids out"
    )
  return np.asarray(values, np.uint8 if max(values) < 256 else np.uint16)


def with_ignored(values: np.ndarray) -> np.ndarray:
  """Returns [256], the table with an id for pixels without data: the greatest that no class has."""
  free = max(set(range(np.iinfo(values.dtype).max + 1)) - set(values.tolist()))
  return np.append(values, np.full(IGNORE + 1 - len(values), free, values.dtype))
