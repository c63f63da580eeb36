"""The page: one HTML file of one or several runs, which loads nothing and runs nothing."""

import dataclasses
import functools
import importlib.resources
import json
import time
from collections.abc import Sequence

from semiseg_jax.arguments import command
from semiseg_jax.config import schema
from semiseg_jax.evaluation.described import BASELINE
from semiseg_jax.options import flat
from semiseg_jax.reporting import (
  bars,
  certainty,
  comparing,
  curves,
  lines,
  markup,
  matrix,
  panels,
  results,
  scales,
  tables,
)
from semiseg_jax.reporting.bars import Scores
from semiseg_jax.reporting.comparing import Group
from semiseg_jax.reporting.markup import Content, Node, el
from semiseg_jax.reporting.results import Result
from semiseg_jax.reporting.runs import Run
from semiseg_jax.version import describe

PICTURES = 4  # worst ones of a run, and as many best ones
_OF_ALL = 14  # worst pictures of all runs together, so that a page stays small
_WITH_SHEETS = 3  # runs of a page that shows sheets of those that kept no pictures
_OPEN = 30  # keys that differ up to which they are shown at once


def build(runs: Sequence[Run], pictures: int | None = None) -> bytes:
  """Returns the file.

  Args:
    runs: at least one; the stages of a run count as several.
    pictures: worst ones of each run, and as many best ones; None: `PICTURES`, fewer of many runs.
  """
  title, runs = _titled(runs)
  of_groups = comparing.groups(runs)
  colors = {run.name: k for k, run in enumerate(runs)}
  number = pictures if pictures is not None else min(PICTURES, max(1, _OF_ALL // len(runs)))
  sections = [
    _head(title, runs),
    _results(runs, of_groups, colors),
    _configs(runs),
    _curves(runs),
    _classes(of_groups, colors),
    _calibration(runs),
    _confusion(runs),
    _pictures(runs, number, runs if pictures is not None else runs[:_OF_ALL]),
    _origins(runs),
    el("p", f"Written by semiseg_jax {describe()['version']}.", class_="soft small"),
  ]
  return markup.document(title, _style(), [el("main", sections)])


@functools.cache
def _style() -> str:
  return importlib.resources.files(__package__).joinpath("page.css").read_text("utf-8")


def _titled(runs: Sequence[Run]) -> tuple[str, Sequence[Run]]:
  """The title, and the runs; the stages of one run without its name."""
  if len(runs) == 1:
    return runs[0].name, runs
  if all(run.name == f"{runs[0].name}/{BASELINE}" for run in runs[1:]):
    return f"{runs[0].name}, beside labels alone", runs
  (whole, *others) = {run.name.rpartition("/")[0] for run in runs}
  if others or not whole:
    return f"{len(runs)} runs", runs
  stages = [dataclasses.replace(run, name=run.name.rpartition("/")[2]) for run in runs]
  return f"{whole}, {len(runs)} stages", stages


def _head(title: str, runs: Sequence[Run]) -> list[Content]:
  found: list[Content] = [el("h1", title)]
  if len(runs) == 1:
    found.append(el("p", _about(runs[0]), class_="soft"))
  else:
    about = {
      run.name: [el("b", run.name), " ", el("span", _about(run), class_="soft")] for run in runs
    }
    numbered = [(run.name, k) for k, run in enumerate(runs)]
    found.append(lines.legend(numbered, about.__getitem__))
  for run in runs:
    before = f"{run.name}: " if len(runs) > 1 else ""
    found += [el("p", before, note, class_="note", role="note") for note in run.notes]
  return found


def _about(run: Run) -> str:
  """What a run is, in a line."""
  config, parts = run.config, []
  if config.get("method.name"):
    parts.append(" + ".join([config["method.name"], *(config.get("method.add") or [])]))
  if config.get("model.backbone"):
    parts.append(f"{config['model.backbone']} and {config.get('model.head')}")
  if config.get("seed") is not None:
    parts.append(f"seed {config['seed']}")
  parts.append(f"step {run.step}" + (f" of {run.planned}" if run.planned else ""))
  if run.last_row is not None:
    parts.append(time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.last_row)))
  return ", ".join([*parts, run.place])


def _results(
  runs: Sequence[Run], of_groups: Sequence[Group], colors: dict[str, int]
) -> list[Content]:
  if not of_groups:
    return []
  found: list[Content] = [el("h2", "Results")]
  if len(runs) == 1:
    found.append(_tiles(runs[0].results[0]))
    if len(of_groups) == 1:
      return found
  if len(of_groups) > 1:
    found.append(_not_ranked(of_groups, len(runs)))
  for group in of_groups:
    fields = group.result.fields
    found.append(el("h3", f"{fields['dataset'].get('name', '')}, {tables.listed(fields['split'])}"))
    found.append(el("p", tables.how(group.result), class_="soft small"))
    found.append(tables.ranking(group, colors, of_groups))
  return found


def _not_ranked(of_groups: Sequence[Group], runs: int) -> Node:
  what = "Results of these runs" if runs > 1 else "Results"
  text = (
    f"{what} were obtained in {len(of_groups)} ways, and are ranked within each table only: scores "
    "of different protocols, lists or datasets say nothing about each other. What differs: "
  )
  differences = "; ".join(comparing.differences(of_groups))
  return el("p", el("b", "Not one ranking. "), text, differences, ".", class_="note", role="note")


def _tiles(result: Result) -> Node:
  said = tables.numbers(result)
  known = f", 95 %: {tables.ranged(result.interval)}" if result.interval else ""
  found = [
    _tile(f"{scales.percent(x)} %", name + known * (name == result.score_name))
    for name, x in said.items()
  ]
  split = result.fields["split"]
  found.append(
    _tile(f"{result.fields.get('pictures', split.get('ids', '?'))}", f"pictures of {split['name']}")
  )
  found.append(_tile(f"step {result.step}", tables.how(result), "tile small-value"))
  return el("div", found, class_="tiles")


def _tile(value: str, said: str, kind: str = "tile") -> Node:
  return el("div", el("b", value), el("span", said), class_=kind)


def _configs(runs: Sequence[Run]) -> list[Content]:
  if len(runs) == 1:
    usual = json.loads(json.dumps(flat(schema.default().to_dict())))
    own = tables.own_keys(runs[0], usual) if runs[0].config else None
    if own is None:
      return []
    return [el("details", el("summary", "Keys that are not at their defaults"), own)]
  if sum(bool(run.config) for run in runs) < 2:
    return []
  found = tables.keys(runs)
  if found is None:
    found = el("p", "Nothing: all keys have the same values.")
  elif len(list(found.iter("tr"))) - 1 > _OPEN:
    found = el("details", el("summary", f"{len(list(found.iter('tr'))) - 1} keys"), found)
  return [el("h2", "What differs in the configs"), found]


def _curves(runs: Sequence[Run]) -> list[Content]:
  if not any(run.series for run in runs):
    return []
  found: list[Content] = [el("h2", "Curves"), el("div", curves.main(runs), class_="charts")]
  health = [*curves.pseudo_labels(runs), *certainty.pseudo_labels(runs)]
  if health:
    found += [el("h2", "Pseudo labels"), curves.explained(), el("div", health, class_="charts")]
  others = curves.others(runs)
  if others:
    title = f"{len(others)} more series"
    charts = el("div", others, class_="charts")
    found.append(el("details", el("summary", title), charts))
  return found


def _classes(of_groups: Sequence[Group], colors: dict[str, int]) -> list[Content]:
  if not of_groups:
    return []
  found: list[Content] = [el("h2", "Classes")]
  for k, group in enumerate(of_groups):
    result = group.result
    shares = tables.shares_of(result)
    scores = [_scores(run, one, colors) for run, one in group.entries]
    name = "IoU" if result.score_name == "mIoU" else "AP"
    drawn = bars.chart(f"{name} of each class", scores, shares)
    told = [
      (entry.name, [tables.per_class(one, tables.shares_of(one))]) for entry, one in group.entries
    ]
    inside = [el("div", drawn, el("div", _folded(told)), class_="two")]
    if k == 0:
      found += inside
      continue
    title = f"{tables.listed(result.fields['split'])}: {tables.how(result)}"
    found.append(el("details", el("summary", title), inside))
  return found


def _calibration(runs: Sequence[Run]) -> list[Content]:
  charts = certainty.calibration(runs)
  return [el("h2", "Calibration"), el("div", charts, class_="charts")] if charts else []


def _scores(run: Run, result: Result, colors: dict[str, int]) -> Scores:
  return Scores(run.name, colors[run.name], result.per_class)


def _confusion(runs: Sequence[Run]) -> list[Content]:
  having = [run for run in runs if run.results and run.results[0].fields.get("confusion")]
  if not having:
    return []
  blocks = [(run.name, _matrix(run.results[0])) for run in having]
  return [el("h2", "Confusion matrix"), *_folded(blocks)]


def _folded(blocks: Sequence[tuple[str, list[Content]]]) -> list[Content]:
  """The block of one run as it is; of several each can be opened, and the first one is."""
  if len(blocks) == 1:
    return blocks[0][1]
  return [
    el("details", el("summary", name), content, open="" if k == 0 else None)
    for k, (name, content) in enumerate(blocks)
  ]


def _matrix(result: Result) -> list[Content]:
  counts, classes = result.fields["confusion"], list(result.per_class)
  rows = [
    [m.truth, m.predicted, f"{100 * m.share:.1f}", f"{m.pixels:,}"]
    for m in matrix.mistakes(counts, classes)
  ]
  worst = tables.table(["truth", "predicted", "% of the class", "pixels"], rows, 2)
  mistakes = el("div", el("h3", "Largest mistakes"), worst)
  if len(classes) > matrix.DRAWN:
    note = f"{len(classes)} classes are too many for a drawing of all."
    return [el("p", note, class_="soft small"), mistakes]
  return [el("div", matrix.chart(counts, classes), mistakes, class_="two")]


def _pictures(runs: Sequence[Run], number: int, shown: Sequence[Run]) -> list[Content]:
  few = len(runs) <= _WITH_SHEETS
  blocks = [(run.name, _of_run(run, number, few)) for run in shown if run.results and number]
  blocks = [(name, content) for name, content in blocks if content]
  found: list[Content] = [el("h2", "Worst and best pictures")] if blocks else []
  found += _folded(blocks) if blocks else []
  if blocks and len(shown) < len(runs):
    left = f"Pictures of the first {len(shown)} runs; --pictures=N shows those of all."
    found.append(el("p", left, class_="soft small"))
  return found


def _of_run(run: Run, number: int, with_sheet: bool) -> list[Content]:
  kept = run.kept
  if kept is None:
    return _sheet(run, with_sheet)
  worst, best = panels.chosen(kept, number)
  found: list[Content] = [panels.legend(kept.classes, kept.colors)]
  if len(run.results) > 1:
    of = run.kept_of
    said = f"Of {tables.listed(of.fields['split'])}: {tables.how(of)}, step {of.step}."
    found.insert(0, el("p", said, class_="soft small"))
  for title, some in (("Worst", worst), ("Best", best)):
    if some:
      found += [el("h3", title), *(panels.picture(ranked, kept.colors) for ranked in some)]
  return found


def _sheet(run: Run, shown: bool) -> list[Content]:
  """Of runs whose evaluation kept neither the worst nor the best."""
  mends = el("code", f"{command(results.EVALUATE)} --workdir={run.place}")
  note = el("p", "The worst and best ones were not kept; ", mends, " keeps them.", class_="note")
  sheet = panels.sheet(run.sheet) if run.sheet and shown else None
  if sheet is None:
    return [note] if "confusion" in run.results[0].fields else []
  return [note, el("p", "Evenly spread over the list:", class_="soft small"), sheet]


def _origins(runs: Sequence[Run]) -> list[Content]:
  blocks = [
    (f"{run.name}, {tables.listed(result.fields['split'])}", [tables.origin(run, result)])
    for run in runs
    for result in run.results
  ]
  if not blocks:
    return []
  return [el("h2", "How the results were obtained"), *_folded(blocks)]
