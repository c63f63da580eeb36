"""How good the pseudo labels of a run are, on unlabeled pictures whose masks are there after all.

A network of the run labels the unlabeled pictures as its protocol says, whole and unaugmented, and
is compared with masks that the training never saw.  Methods take pseudo labels from crops, and some
from the mean of networks: their own numbers are in the metrics of the training.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from semiseg_jax.data import opening, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.data.targets import Targets
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import calibration, confusion
from semiseg_jax.evaluation.run import Evaluation
from semiseg_jax.wording import counted


@dataclasses.dataclass(frozen=True)
class Hidden:
  """Unlabeled pictures with masks.

  Attributes:
    pool: holds them.
    split: their ids.
    without: how many other unlabeled pictures have no mask.
    name: of the whole unlabeled list.
  """

  pool: Dataset | JoinedDataset
  split: IdList
  without: int
  name: str

  @property
  def note(self) -> str:
    """What is left out, for people; empty where nothing is."""
    if not self.split.ids:
      return (
        f"none of {counted(self.without, 'unlabeled picture')} ({self.name}) has a mask in its "
        "dataset: "
        "the quality of their pseudo labels cannot be told"
      )
    if self.without:
      return f"{self.without} unlabeled pictures have no mask and are left out"
    return ""


def hidden(config: Any, dataset: Dataset) -> Hidden:
  """The unlabeled pictures of a run that have masks; those it learns from with labels are not.

  Args:
    config: of the run; its `data` block names the lists.
    dataset: the main one.

  Raises:
    DataError: a dataset, list or stored targets that are not there.
    ConfigError: the run has no unlabeled pictures.
  """
  data = config.data
  pool = opening.open_pool(data, dataset)
  stored = Targets.open(data.targets).info.ids if data.unlabeled == splits.STORED else None
  try:
    split = splits.make_split(pool, data.labeled, data.unlabeled, data.train, stored=stored)
  except DataError as error:  # such as of a supervised run on all of its pictures
    raise DataError(f"--pseudo_labels: the unlabeled pictures of this run: {error}") from error
  labeled = frozenset(split.labeled.ids)
  ids = [id_ for id_ in split.unlabeled.ids if id_ not in labeled]
  if not ids:
    raise ConfigError("--pseudo_labels: this run has no unlabeled pictures; leave the flag out.")
  known = tuple(id_ for id_ in ids if pool.info.labeled[pool.index(id_)])
  name = split.unlabeled.name
  return Hidden(pool, IdList(f"{name} with masks", known), len(ids) - len(known), name)


def describe(result: Evaluation, of: Hidden, classes: Sequence[str]) -> dict[str, Any]:
  """The block `pseudo_labels` of a result file, fractions.

  'by_threshold': coverage is the share of the labeled pixels that the network labels with at least
  this probability, accuracy and miou are of these alone.
  """
  scores = confusion.scores(result.confusion)
  return {
    "miou": scores["miou"],
    "pixel_accuracy": scores["pixel_accuracy"],
    "mean_class_accuracy": scores["mean_class_accuracy"],
    "iou": {c: None if x != x else float(x) for c, x in zip(classes, scores["iou"])},
    "by_threshold": by_threshold(result.certainty),
    "calibration": calibration.describe(result.certainty),
    "pictures": result.pictures,
    "pictures_without_mask": of.without,
    "labeled_pixels": scores["pixels"],
    "split": of.split.describe(),
    "confusion": result.confusion.tolist(),
  }


def by_threshold(certainty: calibration.Certainty) -> list[dict[str, float | None]]:
  """Coverage, accuracy and mIoU of the pixels whose probability reaches each threshold."""
  above, rows = certainty.above, []
  for threshold, counts in zip(calibration.THRESHOLDS, above, strict=True):
    row = {"threshold": threshold, "coverage": float(counts.sum() / above[0].sum())}
    scores = confusion.scores(counts) if counts.any() else {"pixel_accuracy": None, "miou": None}
    rows.append({**row, "accuracy": scores["pixel_accuracy"], "miou": scores["miou"]})
  return rows


def format_lines(fields: dict[str, Any]) -> list[str]:
  """A table for people of what `describe` gives."""
  lines = [
    f"  pseudo labels of {fields['split']['name']}: mIoU {100 * fields['miou']:.2f}, pixel "
    f"accuracy {100 * fields['pixel_accuracy']:.2f}, ECE {100 * fields['calibration']['ece']:.2f}",
    "  probability at least  coverage  accuracy    mIoU",
  ]
  cell = lambda x: "-" if x is None else f"{100 * x:.2f}"
  for row in fields["by_threshold"]:
    coverage, accuracy, miou = (cell(row[k]) for k in ("coverage", "accuracy", "miou"))
    lines.append(f"  {row['threshold']:20.2f}  {coverage:>8}  {accuracy:>8}  {miou:>6}")
  lines.append(
    f"  {counted(fields['pictures'], 'picture')}, {fields['labeled_pixels']:,} labeled pixels"
  )
  return lines
