"""What an evaluation leaves: a JSON file that says how it was obtained; for people see `table`."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from semiseg_jax import files
from semiseg_jax.data.splits import IdList
from semiseg_jax.evaluation import calibration, result_files
from semiseg_jax.evaluation.confusion import iou, mean_iou
from semiseg_jax.evaluation.confusion import scores as scores_of
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.run import Evaluation

PER_CLASS = ("iou", "f1", "recall", "precision")


MEANS = {  # and what a table calls them
  "miou": "mIoU",
  "mean_f1": "mean F1",
  "pixel_accuracy": "pixel accuracy",
  "mean_class_accuracy": "mean class accuracy",
  "frequency_weighted_iou": "frequency-weighted IoU",
  "boundary_miou": "boundary mIoU",
}


def means(result: Evaluation) -> dict[str, float]:
  """Scores over all classes, fractions; boundary mIoU where contours were counted."""
  scores = scores_of(result.confusion)
  found = {key: scores[key] for key in MEANS if key in scores}
  if result.boundary is not None:
    found["boundary_miou"] = float(mean_iou(result.boundary))
  return found


def boundary_iou(result: Evaluation) -> np.ndarray:
  """Boundary IoU float64 [C]; empty where contours were not counted."""
  return iou(result.boundary) if result.boundary is not None else np.empty(0)


def never_predicted(result: Evaluation, classes: Sequence[str]) -> list[str]:
  """The classes that labels show and no prediction has."""
  truth, predicted = result.confusion.sum(1), result.confusion.sum(0)
  return [c for c, t, p in zip(classes, truth, predicted) if t and not p]


_TRAINED_ON = ("name", "fingerprint", "more_unlabeled", "splits")


def absent(result: Evaluation, classes: Sequence[str]) -> tuple[list[str], ...]:
  """The classes in neither labels nor predictions, in predictions alone, and in labels alone."""
  truth, predicted = result.confusion.sum(1), result.confusion.sum(0)
  left_out = [c for c, t, p in zip(classes, truth, predicted) if not t and not p]
  zero = [c for c, t, p in zip(classes, truth, predicted) if not t and p]
  return left_out, zero, never_predicted(result, classes)


def describe(
  result: Evaluation,
  classes: Sequence[str],
  origin: Mapping[str, Any],
  pseudo: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The fields of a result file: scores as fractions, and all that is needed to repeat it.

  Args:
    result: of `evaluate_ids`.
    classes: names of the classes.
    origin: as `origin` gives it.
    pseudo: of `pseudo_labels.describe`.
  """
  scores, contours = scores_of(result.confusion), boundary_iou(result)
  left_out, zero, missed = absent(result, classes)
  named = {k: dict(zip(classes, map(_or_null, scores[k]))) for k in PER_CLASS}
  return {
    "miou": scores["miou"],
    "miou_without_first_class": _or_null(scores["miou_without_first"]),
    **{k: _or_null(v) for k, v in means(result).items() if k != "miou"},
    "miou_interval": result.interval and result.interval.as_dict(),
    **named,
    **({"boundary_iou": dict(zip(classes, map(_or_null, contours)))} if contours.size else {}),
    **({"calibration": calibration.describe(result.certainty)} if result.certainty else {}),
    **({"pseudo_labels": pseudo} if pseudo else {}),
    "classes_left_out": left_out,
    "classes_only_predicted": zero,
    "classes_never_predicted": missed,
    "pictures": result.pictures,
    "labeled_pixels": scores["pixels"],
    **origin,
    "confusion": result.confusion.tolist(),
  }


def origin(
  *,
  protocol: Protocol,
  split: IdList,
  dataset: Mapping[str, Any],
  trained_on: Mapping[str, Any],
  step: int,
  config: Mapping[str, Any],
  versions: Mapping[str, str],
) -> dict[str, Any]:
  """All that is needed to repeat a result.

  Args:
    protocol: how pictures were segmented, or classified.
    split: the evaluated ids.
    dataset: at least name and fingerprint of the evaluated dataset.
    trained_on: at least name, fingerprint and splits (list names, counts, hashes) of the dataset
      of the training run; more_unlabeled (name, fingerprint) where it had a second one.
    step: of the checkpoint.
    config: of the training run, plain values.
    versions: package -> version; 'commit' of this program, None where it is not known.
  """
  return {
    "checkpoint_step": step,
    "protocol": protocol.as_dict(),
    "split": split.describe(),
    "dataset": {k: dataset[k] for k in ("name", "fingerprint")},
    "trained_on": {k: trained_on[k] for k in _TRAINED_ON if k in trained_on},
    "config": config,
    "versions": versions,
    "commit": commit(versions),
  }


def commit(versions: Mapping[str, Any]) -> str:
  """The commit of this program for people: 40 digits, '+ changes' where files differ, 'unknown'."""
  known = versions.get("commit")
  return f"{known} + changes" if known and versions.get("changed") else known or "unknown"


def _or_null(value: float | np.floating) -> float | None:
  return None if math.isnan(value) else float(value)


def write_result(workdir: epath.PathLike, fields: Mapping[str, Any], protocol: Protocol) -> str:
  """Writes `fields` to WORKDIR/evaluations/, whole or not at all; the path.

  The name follows from dataset, split, step, protocol, and what was asked for beside the scores:
  the same evaluation again replaces it.
  """
  split = re.sub(r"[^A-Za-z0-9_.-]+", "_", fields["split"]["name"]).strip("_")
  parts = [split, f"step_{fields['checkpoint_step']}", protocol.name]
  if fields["dataset"]["fingerprint"] != fields["trained_on"]["fingerprint"]:
    parts.insert(0, f"{fields['dataset']['name']}_{fields['dataset']['fingerprint'][:8]}")
  parts += [name for name in ("calibration", "pseudo_labels") if name in fields]
  folder = epath.Path(workdir) / "evaluations"
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / ("_".join(parts) + ".json")
  files.write_text(path, result_files.text(fields))
  return str(path)
