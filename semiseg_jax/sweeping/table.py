"""The table of a sweep: mean and spread over the seeds; what cannot be compared stands apart.

Spread is the sample standard deviation, of n - 1.
"""

import csv
import dataclasses
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.evaluation import told_protocol
from semiseg_jax.sweeping import results
from semiseg_jax.sweeping.results import Ground
from semiseg_jax.wording import counted

Fields = Mapping[str, Any]
NAMES = {"miou": "mIoU", "mean_average_precision": "mean AP"}
_PER_CLASS = {"miou": "iou", "mean_average_precision": "average_precision"}
_DIFFERS = {
  "score": "score",
  "protocol": "evaluation protocol",
  "dataset": "evaluated data set",
  "evaluated": "evaluated list",
  "labeled": "list of labeled pictures",
}


@dataclasses.dataclass(frozen=True)
class Row:
  """The results of one run of a table: seed -> fields of its result file."""

  name: str
  fields: Mapping[int, Fields]

  def scores(self) -> dict[int, float]:
    """Returns seed -> score, a fraction."""
    return {seed: f[results.score_name(f)] for seed, f in self.fields.items()}

  def of_class(self, name: str) -> list[float]:
    """Returns the scores of a class, without those of seeds that have none."""
    found = (f[_PER_CLASS[results.score_name(f)]].get(name) for f in self.fields.values())
    return [value for value in found if value is not None]

  @property
  def scored(self) -> str:
    """Which networks the scores are of."""
    return ", ".join(dict.fromkeys(results.network(f) for f in self.fields.values()))


def mean(values: Sequence[float]) -> float:
  """The mean, NaN of nothing."""
  return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
  """The sample standard deviation, NaN of fewer than two."""
  return statistics.stdev(values) if len(values) > 1 else math.nan


def grouped(found: Mapping[tuple[str, int], Fields]) -> dict[Ground, list[Row]]:
  """Returns what may be ranked together, the best row first.

  Args:
    found: (name, seed) -> fields of a result file.
  """
  groups: dict[Ground, dict[str, dict[int, Fields]]] = {}
  for (name, seed), fields in found.items():
    groups.setdefault(results.ground(fields), {}).setdefault(name, {})[seed] = fields
  best = lambda row: -mean(list(row.scores().values()))
  return {
    ground: sorted((Row(name, fields) for name, fields in rows.items()), key=best)
    for ground, rows in groups.items()
  }


def markdown(
  title: str,
  found: Mapping[tuple[str, int], Fields],
  missing: Sequence[str],
  *,
  per_class: bool = False,
) -> str:
  """Returns the tables, scores in percent, and below them what has no result.

  Args:
    title: the first line.
    found: as for `grouped`.
    missing: runs without a result, a line each with the reason.
    per_class: whether a table of the classes follows each.
  """
  groups = grouped(found)
  lines = [f"# {title}", "", *_comparability(list(groups))]
  for ground, rows in groups.items():
    lines += [f"{_heading(ground, rows[0])}:", "", *_table(ground, rows), ""]
    lines += [*(f"NOTE {note}" for note in _notes(rows)), ""] if _notes(rows) else []
    lines += [*_class_table(rows), ""] if per_class else []
  lines += ["Without a result:", "", *(f"* {line}" for line in missing)] if missing else []
  return "\n".join(lines).rstrip() + "\n"


def _comparability(grounds: Sequence[Ground]) -> list[str]:
  if len(grounds) < 2:
    return []
  what = [text for name, text in _DIFFERS.items() if len({getattr(g, name) for g in grounds}) > 1]
  return [
    f"NOTE {len(grounds)} tables, which are not to be compared with each other: they differ in "
    f"{', '.join(what)}. Each is ranked by itself.",
    "",
  ]


def _heading(ground: Ground, row: Row) -> str:
  fields = next(iter(row.fields.values()))
  learned = results.labeled(fields)
  text = f"{NAMES[ground.score]} in percent on {_list(fields['split'])} of {_data(fields)}, "
  text += how(ground)
  return text + (f"; labels of {_list(learned)}" if learned else "")


def _data(fields: Fields) -> str:
  return f"`{fields['dataset']['name']}` ({fields['dataset']['fingerprint'][:8]})"


def _list(about: Mapping[str, Any]) -> str:
  return f"`{about['name']}` ({counted(about['ids'], 'picture')}, {about['sha256'][:8]})"


def how(ground: Ground) -> str:
  """Returns the protocol in words: 'mode=slide, window=[512, 512], stride=[341, 341]'."""
  fields = json.loads(ground.protocol)
  usual = told_protocol.USUAL
  told = {name: value for name, value in fields.items() if value != usual.get(name)}
  return ", ".join(f"{name}={value}" for name, value in told.items())


def _table(ground: Ground, rows: Sequence[Row]) -> list[str]:
  seeds = sorted({seed for row in rows for seed in row.fields})
  head = ["run", NAMES[ground.score], "sd", *(f"seed {seed}" for seed in seeds), "scored"]
  lines = [line(head), line(["---"] * len(head))]
  for row in rows:
    scores = row.scores()
    values = list(scores.values())
    each = [percent(scores.get(seed, math.nan)) for seed in seeds]
    lines.append(
      line([row.name, percent(mean(values)), percent(spread(values)), *each, row.scored])
    )
  return lines


def _notes(rows: Sequence[Row]) -> list[str]:
  notes = []
  if len({row.scored for row in rows}) > 1:
    notes.append("the rows score different networks, as the last column says.")
  if len({frozenset(row.fields) for row in rows}) > 1:
    notes.append("the means are over different seeds.")
  return notes


def classes(rows: Sequence[Row]) -> list[str]:
  """Returns the names of the classes that any result has, in their order."""
  of = lambda fields: fields[_PER_CLASS[results.score_name(fields)]]
  return list(dict.fromkeys(c for row in rows for f in row.fields.values() for c in of(f)))


def _class_table(rows: Sequence[Row]) -> list[str]:
  head = ["class", *(row.name for row in rows)]
  lines = [line(head), line(["---"] * len(head))]
  for name in classes(rows):
    cells = []
    for values in (row.of_class(name) for row in rows):
      sd = percent(spread(values))
      cells.append(percent(mean(values)) + f" ± {sd}" * bool(sd))
    lines.append(line([name, *cells]))
  return lines


def comma_separated(found: Mapping[tuple[str, int], Fields], *, per_class: bool = False) -> str:
  """Returns the same with scores as fractions, a line for each run; empty where there is none."""
  groups = grouped(found)
  every = [row for rows in groups.values() for row in rows]
  seeds = sorted({seed for row in every for seed in row.fields})
  names = classes(every) if per_class else []
  head = ["table", "run", "score", "mean", "sd", *(f"seed_{seed}" for seed in seeds), "scored"]
  head += ["protocol", "dataset", "evaluated", "evaluated_sha256", "labeled", "labeled_sha256"]
  head += [f"{kind}/{name}" for name in names for kind in ("mean", "sd")]
  text = io.StringIO()
  out = csv.writer(text, lineterminator="\n")
  out.writerow(head)
  for number, (ground, rows) in enumerate(groups.items(), 1):
    for row in rows:
      fields, scores = next(iter(row.fields.values())), row.scores()
      values, learned = list(scores.values()), results.labeled(fields)
      numbers = [mean(values), spread(values), *(scores.get(seed, math.nan) for seed in seeds)]
      per = [f(row.of_class(name)) for name in names for f in (mean, spread)]
      place = [fields["dataset"]["fingerprint"], fields["split"]["name"], ground.evaluated]
      cells = [number, row.name, ground.score, *numbers, row.scored, ground.protocol, *place]
      cells += [learned.get("name", ""), ground.labeled, *per]
      out.writerow("" if isinstance(x, float) and math.isnan(x) else x for x in cells)
  return text.getvalue()


def line(cells: Sequence[str]) -> str:
  """Returns a row of a table in Markdown."""
  return f"| {' | '.join(cells)} |"


def percent(fraction: float, sign: str = "") -> str:
  """Returns a fraction in percent, "" for NaN."""
  return "" if math.isnan(fraction) else f"{100 * fraction:{sign}.2f}"
