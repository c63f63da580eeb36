"""The table of a study: a row for each method, as Markdown and as CSV."""

import csv
import dataclasses
import io
import math
import pathlib
import statistics
from collections.abc import Sequence

from semiseg_jax import files
from semiseg_jax.sweeping.table import line, percent

BASELINE = "supervised"


@dataclasses.dataclass
class Row:
  """What is known of a method so far.

  Attributes:
    method: its name in the config file.
    evaluated: which network was scored.
    miou: seed -> mIoU, a fraction.
    step: time of a step relative to the baseline's, None: not measured.
    faults: what went wrong, a line each.
  """

  method: str
  evaluated: str = ""
  miou: dict[int, float] = dataclasses.field(default_factory=dict)
  step: float | None = None
  faults: list[str] = dataclasses.field(default_factory=list)

  @property
  def mean(self) -> float:
    """Over the seeds, NaN without any."""
    return statistics.fmean(self.miou.values()) if self.miou else math.nan

  def gain(self, baseline: "Row") -> float:
    """Returns the mean difference to the baseline over the seeds of both; NaN without any."""
    both = [s for s in self.miou if s in baseline.miou]
    return statistics.fmean(self.miou[s] - baseline.miou[s] for s in both) if both else math.nan


def write(folder: pathlib.Path, title: str, rows: Sequence[Row], seeds: Sequence[int]) -> None:
  """Writes study.md and study.csv into a folder, each whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  files.write_text(folder / "study.md", markdown(title, rows, seeds))
  files.write_text(folder / "study.csv", comma_separated(rows, seeds))


def markdown(title: str, rows: Sequence[Row], seeds: Sequence[int]) -> str:
  """Returns the table with mIoU in percent, and below it what went wrong."""
  head = ["method", "mIoU", *(f"seed {s}" for s in seeds), "difference", "step", "evaluated"]
  lines = [title, "", line(head), line(["---"] * len(head))]
  for row, cells in zip(rows, _cells(rows, seeds)):
    mean, *each, gain, step = cells
    figures = [percent(mean), *map(percent, each), percent(gain, "+"), _number(step)]
    lines.append(line([row.method, *figures, row.evaluated]))
  faults = [f"* {row.method}: {fault}" for row in rows for fault in row.faults]
  return "\n".join([*lines, *(["", *faults] if faults else [])]) + "\n"


def comma_separated(rows: Sequence[Row], seeds: Sequence[int]) -> str:
  """Returns the same with mIoU as fractions, empty where there is none."""
  text = io.StringIO()
  out = csv.writer(text, lineterminator="\n")
  out.writerow(["method", "miou", *(f"seed_{s}" for s in seeds), "difference", "step", "evaluated"])
  for row, cells in zip(rows, _cells(rows, seeds)):
    out.writerow([row.method, *("" if math.isnan(x) else x for x in cells), row.evaluated])
  return text.getvalue()


def _cells(rows: Sequence[Row], seeds: Sequence[int]) -> list[list[float]]:
  """Mean, seeds, difference, step of every row; NaN where unknown."""
  baseline = next((row for row in rows if row.method == BASELINE), Row(BASELINE))
  return [
    [row.mean, *(row.miou.get(s, math.nan) for s in seeds), row.gain(baseline), _or_nan(row.step)]
    for row in rows
  ]


def _or_nan(value: float | None) -> float:
  return math.nan if value is None else value


def _number(value: float) -> str:
  return "" if math.isnan(value) else f"{value:.2f}"
