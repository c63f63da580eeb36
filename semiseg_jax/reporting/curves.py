"""The curves of a page: loss, rate and scores, the health of pseudo labels, and all the rest."""

import re
from collections.abc import Sequence

from semiseg_jax.reporting import bars, lines
from semiseg_jax.reporting.bars import Scores
from semiseg_jax.reporting.lines import Line
from semiseg_jax.reporting.markup import Node, el
from semiseg_jax.reporting.runs import Run

_RATE = "train/learning_rate"  # that of a schedule is known by its shape
# Series -> its title and whether it is a fraction; these come first.
_MAIN = {
  "val/miou": ("mIoU on the validation list", True),
  "val/map": ("Mean AP on the validation list", True),
  "train/loss": ("Loss", False),
  _RATE: ("Learning rate", False),
  "val/pixel_accuracy": ("Pixel accuracy on the validation list", True),
  "train/grad_norm": ("Norm of the gradient", False),
  "speed/images_per_s": ("Pictures a second", False),
}
_PSEUDO = "train/pseudo/"
_HISTOGRAM = f"{_PSEUDO}histogram/"
_HEALTH = ("accuracy", "agreement", "kept")  # in this order, others behind them
_EXPLAINED = (
  "Shares of pixels. accuracy k: pseudo labels of network k that are right, of those whose true "
  "label is known and hidden; agreement: all networks say the same; kept: have a pseudo label."
)
_ENDS = ("low", "high")  # of the interval of a score
_LEFT_OUT = ("train/finite",)  # is 1 in every row: a run ends where it is not


def main(runs: Sequence[Run]) -> list[Node]:
  """Returns the charts of loss, rate and scores: a line for each run."""
  charts = [_of(runs, name, *about) for name, about in _MAIN.items() if _has(runs, name)]
  return charts + [chart for chart in [_supervised(runs)] if chart is not None]


def _has(runs: Sequence[Run], name: str) -> bool:
  return any(name in run.series for run in runs)


def _of(runs: Sequence[Run], name: str, title: str, percent: bool) -> Node:
  drawn = [
    Line(run.name, run.series[name], k, _interval(run, name))
    for k, run in enumerate(runs)
    if name in run.series
  ]
  return lines.chart(title, drawn, percent=percent, log=name != _RATE)


def _interval(run: Run, name: str) -> dict[float, tuple[float, float]]:
  """Step -> interval of a score over pictures, where it was logged."""
  low, high = (dict(run.series.get(f"{name}_{end}", ())) for end in _ENDS)
  return {step: (low[step], high[step]) for step in low.keys() & high.keys()}


def _supervised(runs: Sequence[Run]) -> Node | None:
  """Of one run its networks, of several their first networks."""
  if len(runs) > 1:
    name = "train/supervised_0"
    return _of(runs, name, "Supervised loss", False) if _has(runs, name) else None
  names = [name for name in runs[0].series if re.fullmatch(r"train/supervised_\d+", name)]
  several = [
    Line(f"network {name.rpartition('_')[2]}", runs[0].series[name], k)
    for k, name in enumerate(names)
  ]
  return lines.chart("Supervised loss", several) if names else None


def pseudo_labels(runs: Sequence[Run]) -> list[Node]:
  """Returns the charts of pseudo labels, none where no run has any.

  Of one run a line for each number, of several a chart for each.
  """
  names = _health_names(runs)
  if not names:
    return []
  if len(runs) > 1:
    return [_of(runs, name, f"Pseudo labels: {_words(name)}", True) for name in names]
  series = [Line(_words(name), runs[0].series[name], k) for k, name in enumerate(names)]
  return [lines.chart("Pseudo labels", series, percent=True), *_shares(runs[0])]


def _health_names(runs: Sequence[Run]) -> list[str]:
  every = dict.fromkeys(name for run in runs for name in run.series)
  order = [*_HEALTH, ""]
  rank = lambda name: next(k for k, what in enumerate(order) if _PSEUDO + what in name)
  found = [n for n in every if n.startswith(_PSEUDO) and not n.startswith(_HISTOGRAM)]
  return sorted(found, key=lambda name: (rank(name), name))


def _words(name: str) -> str:
  """train/pseudo/accuracy_0 -> accuracy 0"""
  return name.removeprefix(_PSEUDO).replace("_", " ")


def explained() -> Node:
  """Returns what the numbers of pseudo labels are."""
  return el("p", _EXPLAINED, class_="soft small")


def _shares(run: Run) -> list[Node]:
  """How often each class is a pseudo label now, and in the labels of the evaluated list."""
  found = {n: p[-1][1] for n, p in run.series.items() if n.startswith(_HISTOGRAM)}
  counts = run.results[0].fields.get("confusion") if run.results else None
  if not found or not counts or len(counts) != len(found):
    return []
  classes = list(run.results[0].per_class)
  by_name = {c: found.get(_HISTOGRAM + c) for c in classes}
  if None in by_name.values():  # of runs that numbered them
    by_name = dict(zip(classes, (found[name] for name in sorted(found))))
  total = sum(map(sum, counts)) or 1
  true = {c: sum(row) / total for c, row in zip(classes, counts)}
  pair = [Scores("pseudo labels", 1, by_name), Scores("labels of the evaluated list", 2, true)]
  return [bars.chart("Share of each class", pair, {}, "wide")]


def others(runs: Sequence[Run]) -> list[Node]:
  """Returns a chart of every series that is in none of the others."""
  intervals = [f"{name}_{end}" for name in _MAIN for end in _ENDS]
  shown = {*_MAIN, *_health_names(runs), *_LEFT_OUT, *intervals}
  every = dict.fromkeys(name for run in runs for name in run.series)
  rest = [name for name in every if name not in shown and not _is_in_main(name, runs)]
  fraction = lambda name: name.startswith(("val/iou/", "val/ap/", _HISTOGRAM))
  return [_of(runs, name, name, fraction(name)) for name in rest]


def _is_in_main(name: str, runs: Sequence[Run]) -> bool:
  pattern = r"train/supervised_\d+" if len(runs) == 1 else "train/supervised_0"
  return re.fullmatch(pattern, name) is not None
