"""The scores of an evaluation as a table for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.evaluation import bootstrap, calibration, pseudo_labels, report
from semiseg_jax.evaluation.confusion import scores as scores_of
from semiseg_jax.evaluation.run import Evaluation
from semiseg_jax.wording import counted


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
  width = max(map(len, (*classes, *report.MEANS.values(), *places)))
  contours = [f"        {percent(x)}" for x in report.boundary_iou(result)] or [""] * len(classes)
  last = "  boundary IoU" * (result.boundary is not None)
  lines = [title, "", f"  {'class':{width}}     IoU      F1  recall  precision  % of pixels{last}"]
  for name, iou_, f1, recall, precision, share, contour in zip(
    classes, *(scores[k] for k in report.PER_CLASS), shares, contours
  ):
    cells = f"{percent(iou_)}  {percent(f1)}  {percent(recall)}     {percent(precision)}"
    lines.append(f"  {name:{width}}  {cells}       {100 * share:6.2f}{contour}")
  named = [(report.MEANS[key], value) for key, value in report.means(result).items()]
  lines += [f"  {name:{width}}  {percent(value)}" for name, value in named]
  lines += _interval_lines(result, classes)
  for names, told in zip(report.absent(result, classes), _TOLD):
    if names:
      lines.append(f"  NOTE {told}: {', '.join(names)}")
  lines.append(f"  {counted(result.pictures, 'picture')}, {scores['pixels']:,} labeled pixels")
  if result.certainty:
    lines += ["", *calibration.format_lines(result.certainty)]
  if pseudo:
    lines += ["", *pseudo_labels.format_lines(pseudo)]
  lines += [""] + [f"  {what:{width}}  {where}" for what, where in places.items()]
  return "\n".join(lines).rstrip()


_TOLD = (
  "neither in the labels nor predicted, left out of the mean",
  "not in the labels but predicted, counted with IoU 0",
  "in the labels but never predicted, counted with IoU 0",
)


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
      f"  NOTE {counted(found.pictures, 'picture is', 'pictures are')} few: the interval is too "
      "narrow, as it knows nothing "
      "of what they do not show; differences of its width say nothing"
    )
  if found.rare:
    names = ", ".join(classes[k] for k in found.rare)
    lines.append(f"  NOTE in so few pictures that some resamples leave them out: {names}")
  return lines


def percent(fraction: float) -> str:
  """Six characters of a table; NaN is a dash."""
  return "     -" if math.isnan(fraction) else f"{100 * fraction:6.2f}"
