"""How far probabilities can be trusted, and pseudo labels by them, where that was counted."""

from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.reporting import lines, scales
from semiseg_jax.reporting.lines import Line
from semiseg_jax.reporting.markup import Node
from semiseg_jax.reporting.runs import Run

_BY_THRESHOLD = {"accuracy": "accuracy", "miou": "mIoU", "coverage": "coverage"}
_IDEAL = 6  # color of the line on which all probabilities are right


def calibration(runs: Sequence[Run]) -> list[Node]:
  """Returns a chart of accuracy by probability, none where no result tells them."""
  told = [(k, run, _block(run, "calibration")) for k, run in enumerate(runs)]
  drawn = [
    Line(f"{run.name}, ECE {scales.percent(float(about['ece']))}", _reliability(about), k)
    for k, run, about in told
    if about
  ]
  if not drawn:
    return []
  ideal = Line("ideal", [(0.0, 0.0), (100.0, 1.0)], _IDEAL)
  return [
    lines.chart(
      "Right pixels by probability", [*drawn, ideal], percent=True, across="probability, %"
    )
  ]


def _block(run: Run, name: str) -> Mapping[str, Any]:
  found = run.results[0].fields.get(name) if run.results else None
  return found if isinstance(found, Mapping) else {}


def _reliability(about: Mapping[str, Any]) -> list[tuple[float, float]]:
  pairs = zip(about["probability"], about["accuracy"])
  return [(100 * float(p), float(right)) for p, right in pairs if p is not None]


def pseudo_labels(runs: Sequence[Run]) -> list[Node]:
  """Returns a chart for each run whose pseudo labels were compared with masks."""
  found = []
  for run in runs:
    about = _block(run, "pseudo_labels")
    rows = about.get("by_threshold") or []
    drawn = [
      Line(said, [(100 * r["threshold"], r[name]) for r in rows if r.get(name) is not None], k)
      for k, (name, said) in enumerate(_BY_THRESHOLD.items())
    ]
    if rows:
      title = f"Labels that {run.name} gives {about['split']['name']}"
      found.append(lines.chart(title, drawn, percent=True, across="probability at least, %"))
  return found
