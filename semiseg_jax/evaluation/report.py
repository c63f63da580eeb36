"""What an evaluation leaves: a table for people and a JSON file that says how it was obtained."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from semiseg_jax import files
from semiseg_jax.data.splits import IdList
from semiseg_jax.evaluation import bootstrap, calibration, pseudo_labels, result_files
from semiseg_jax.evaluation.confusion import iou, mean_iou
from semiseg_jax.evaluation.confusion import scores as scores_of
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.run import Evaluation

PER_CLASS = ("iou", "f1", "recall", "precision")


def format_report(
  result: Evaluation,
  classes: Sequence[str],
  *,
  title: str,
  places: Mapping[str, str],
  pseudo: Mapping[str, Any] | None = None,
) -> str:
  """A table of scores and share of the pixels per class, the means, and where things lie.

  The scores are IoU, F1 (which is Dice), recall, precision and, where contours were counted,
  boundary IoU.

  Args:
    result: of `evaluate_ids`.
    classes: names.
    title: the first line.
    places: what -> path, one line each; empty for none.
    pseudo: of `pseudo_labels.describe`.
  """
  scores, shares = scores_of(result.confusion), result.confusion.sum(1) / result.confusion.sum()
  width = max(map(len, (*classes, *_MEANS.values(), *places)))
  contours = [" " * 8 + percent(x) for x in boundary_iou(result)] or [""] * len(classes)
  last = "  boundary IoU" * (result.boundary is not None)
  lines = [title, "", f"  {'class':{width}}     IoU      F1  recall  precision  % of pixels{last}"]
  for name, iou_, f1, recall, precision, share, contour in zip(
    classes, *(scores[k] for k in PER_CLASS), shares, contours
  ):
    cells = f"{percent(iou_)}  {percent(f1)}  {percent(recall)}     {percent(precision)}"
    lines.append(
      f"  {name:{width}}  {cells}       {100 * share:6.2f}{contour and '        '}{contour}"
    )
  lines += [f"  {_MEANS[key]:{width}}  {percent(value)}" for key, value in means(result).items()]
  lines += _interval_lines(result, classes)
  for names, told in zip(_absent(result, classes), _TOLD):
    if names:
      lines.append(f"  NOTE {told}: {', '.join(names)}")
  lines.append(f"  {result.pictures} pictures, {scores['pixels']:,} labeled pixels")
  if result.certainty:
    lines += ["", *calibration.format_lines(result.certainty)]
  if pseudo:
    lines += ["", *pseudo_labels.format_lines(pseudo)]
  lines += [""] + [f"  {what:{width}}  {where}" for what, where in places.items()]
  return "\n".join(lines).rstrip()


_MEANS = {  # of the table
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
  found = {key: scores[key] for key in _MEANS if key in scores}
  if result.boundary is not None:
    found["boundary_miou"] = float(mean_iou(result.boundary))
  return found


def boundary_iou(result: Evaluation) -> np.ndarray:
  """Boundary IoU float64 [C]; empty where contours were not counted."""
  return iou(result.boundary) if result.boundary is not None else np.empty(0)


def _interval_lines(result: Evaluation, classes: Sequence[str]) -> list[str]:
  """The interval of the mIoU, and how far it can be trusted."""
  found = result.interval
  if found is None:
    few = result.of_pictures is not None
    return ["  NOTE one picture with labels: how mIoU varies over pictures cannot be told"] * few
  lines = [
    f"  mIoU lies in {100 * found.low:.2f} to {100 * found.high:.2f} (95 %, other pictures: "
    f"{found.resamples} resamples of these {found.pictures})"
  ]
  if found.pictures < bootstrap.FEW:
    lines.append(
      f"  NOTE {found.pictures} pictures are few: the interval is too narrow, as it knows nothing "
      "of what they do not show; differences of its width say nothing"
    )
  if found.rare:
    names = ", ".join(classes[k] for k in found.rare)
    lines.append(f"  NOTE in so few pictures that some resamples leave them out: {names}")
  return lines


_TOLD = (
  "neither in the labels nor predicted, left out of the mean",
  "not in the labels but predicted, counted with IoU 0",
  "in the labels but never predicted, counted with IoU 0",
)


def never_predicted(result: Evaluation, classes: Sequence[str]) -> list[str]:
  """The classes that labels show and no prediction has."""
  truth, predicted = result.confusion.sum(1), result.confusion.sum(0)
  return [c for c, t, p in zip(classes, truth, predicted) if t and not p]


_TRAINED_ON = ("name", "fingerprint", "more_unlabeled", "splits")


def _absent(result: Evaluation, classes: Sequence[str]) -> tuple[list[str], ...]:
  truth, predicted = result.confusion.sum(1), result.confusion.sum(0)
  left_out = [c for c, t, p in zip(classes, truth, predicted) if not t and not p]
  zero = [c for c, t, p in zip(classes, truth, predicted) if not t and p]
  return left_out, zero, never_predicted(result, classes)


def percent(fraction: float) -> str:
  """Six characters of a table; NaN is a dash."""
  return "     -" if math.isnan(fraction) else f"{100 * fraction:6.2f}"


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
  left_out, zero, missed = _absent(result, classes)
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
