"""Weights of classes, and how often these occur in the labeled pictures of a run."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.records import Record
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.ops import class_weights


def weights(
  config: Any, pool: Dataset | JoinedDataset, ids: Sequence[str], classes: Sequence[str]
) -> tuple[float, ...]:
  """Returns the weights of the classes that `method.class_weighting` asks for; () = equal ones.

  Those of a rule are told.

  Args:
    config: of the run.
    pool: where the pictures are.
    ids: of the labeled pictures.
    classes: names.

  Raises:
    ConfigError: a list of other classes, or one that leaves nothing to learn.
    DataError: a damaged label.
  """
  m, rule = config.method, config.method.class_weighting
  if rule == "equal":
    return ()
  if rule == "given":
    one_each = tuple(m.class_weight_list)
    if len(one_each) != len(classes) or not any(one_each):
      raise ConfigError(
        f"method.class_weight_list={one_each}: {len(classes)} numbers, one for each of "
        f"{', '.join(classes)}, some of them above 0."
      )
    return one_each
  one_each = class_weights.weights(rule, count(pool, ids, len(classes)), m.class_weight_beta)
  if jax.process_index() == 0:
    told = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, one_each))
    logging.info("Weights of the classes by %s of %d pictures: %s.", rule, len(ids), told)
  return one_each


def count(pool: Dataset | JoinedDataset, ids: Sequence[str], classes: int) -> np.ndarray:
  """Returns the labeled pixels of each class in each picture, int64 [n,C]."""
  labels = read_ahead(functools.partial(label, pool), [pool.index(id_) for id_ in ids])
  return np.stack([np.bincount(label.ravel(), minlength=256)[:classes] for label in labels])


def label(pool: Dataset | JoinedDataset, index: int) -> np.ndarray:
  """Returns the label of a picture, uint8 [H,W]; where it lies apart, the picture is not decoded.

  Raises:
    DataError: a damaged record.
  """
  record = pool.record(index)
  return record.label() if isinstance(record, Record) else record.label
