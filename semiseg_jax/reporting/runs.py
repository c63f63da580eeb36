"""Runs as a page shows them: what lies in their folders, and what is missing or damaged there."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from semiseg_jax import seals
from semiseg_jax.arguments import command
from semiseg_jax.config import schema
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import extremes
from semiseg_jax.evaluation.described import BASELINE, STAGES
from semiseg_jax.evaluation.extremes import Kept
from semiseg_jax.options import flat
from semiseg_jax.reporting import results
from semiseg_jax.reporting.results import Damaged, Result
from semiseg_jax.wording import counted
from semiseg_jax.workdir.writers import JSON_LINES

Points = list[tuple[int, float]]  # (step, value), by step
CONFIG = "config.json"
_MOST_STEPS = 2**53  # what a float counts
_TRAIN = "a run that goes on writes it anew, otherwise take it from a copy of the run"
_SIGNS = (CONFIG, JSON_LINES, STAGES)  # one of these lies in every run's folder


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, or a stage of one.

  Attributes:
    name: short, no two runs of a page have the same.
    place: its folder, for people.
    config: flat, with today's keys; empty where none can be read.
    series: name -> its points.
    results: of every way to evaluate (protocol, list, dataset) that of the latest step; the run's
      own way first.
    kept: the worst and best pictures of the first result that has any, None where none has.
    kept_of: that result.
    sheet: the picture beside the first result, None where there is none.
    last_row: the time of its last row of metrics in seconds since 1970, None without any.
    notes: what is missing or `Damaged`, a sentence each.
  """

  name: str
  place: str
  config: dict[str, Any]
  series: dict[str, Points]
  results: list[Result]
  kept: Kept | None
  kept_of: Result | None
  sheet: pathlib.Path | None
  last_row: float | None
  notes: list[str]

  @property
  def step(self) -> int:
    """The last one that the metrics tell."""
    return max((points[-1][0] for points in self.series.values()), default=0)

  @property
  def damaged(self) -> list[str]:
    """What to mend there, a line each that begins with the folder."""
    return [f"{self.place}: {note}" for note in self.notes if isinstance(note, Damaged)]

  @property
  def planned(self) -> int | None:
    """The steps that the config asks for."""
    return self.config.get("train.steps")


def read(folder: str | pathlib.Path, name: str, place: str) -> list[Run]:
  """Returns the run in a folder, or all of its stages; labels alone beside them last.

  Args:
    folder: of the run, on this machine.
    name: of the run; of stages it stands before theirs.
    place: the folder for people.

  Raises:
    CheckpointError: there is no run.
    OSError: a file cannot be read.
  """
  root = pathlib.Path(folder)
  if not any((root / sign).is_file() for sign in _SIGNS):
    there = "holds no run" if root.is_dir() else "does not exist"
    raise CheckpointError(
      f"--workdir={place}: {there}; give the --workdir of a training run, which holds {CONFIG} and "
      f"{JSON_LINES}."
    )
  beside = _baseline(root, name, place)
  if not (root / STAGES).is_file():
    return [_read(root, name, place, []), *beside]
  stages, notes = _stages(root)
  if not stages:
    raise CheckpointError(f"--workdir={place}: none of its stages has begun.")
  staged = [
    _read(root / stage, f"{name}/{stage}", f"{place}/{stage}", notes if stage == stages[-1] else [])
    for stage in stages
  ]
  return [*staged, *beside]


def _baseline(root: pathlib.Path, name: str, place: str) -> list[Run]:
  """Labels alone, where the run has trained them beside itself."""
  if not (root / BASELINE / CONFIG).is_file():
    return []
  return [_read(root / BASELINE, f"{name}/{BASELINE}", f"{place}/{BASELINE}", [])]


def _stages(root: pathlib.Path) -> tuple[list[str], list[str]]:
  """The stages that have begun, in order, and what is to be said of them."""
  there = [p.name for p in sorted(root.iterdir()) if any((p / s).is_file() for s in _SIGNS)]
  try:
    named = json.loads((root / STAGES).read_bytes())
    if seals.problem(named):
      raise ValueError(seals.problem(named))
    order = [str(stage) for stage in named["stages"]]
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    said = f"{STAGES} is damaged ({error}): the stages are those that have a folder; {_TRAIN}."
    return there, [Damaged(said)]
  absent = [stage for stage in order if stage not in there]
  notes = [f"Not begun yet: {', '.join(absent)}."] if absent else []
  return [stage for stage in order if stage in there], notes


def _read(root: pathlib.Path, name: str, place: str, notes: Sequence[str]) -> Run:
  notes = list(notes)
  config = _config(root / CONFIG, notes)
  series, last_row = _metrics(root / JSON_LINES, notes)
  found = results.read(root / "evaluations", config.get("data.val"), notes)
  run = Run(name, place, config, series, found, None, None, None, last_row, notes)
  planned = run.planned
  if planned and run.step < planned:
    notes.append(
      f"The metrics end at step {run.step} of {planned}: the run goes on, or was stopped; the "
      "command that trains it goes on."
    )
  if not found:
    notes.append("It has no evaluation: no scores by class, no confusion matrix, no pictures.")
    return run
  first = (found[0].file, *found[0].others)
  sheets = [sheet for file in first if (sheet := file.with_suffix(".png")).is_file()]
  files = [(result, file) for result in found for file in (result.file, *result.others)]
  pairs = ((_kept(file, result.step, notes), result) for result, file in files)
  kept, of = next((pair for pair in pairs if pair[0]), (None, None))
  return dataclasses.replace(run, kept=kept, kept_of=of, sheet=sheets[0] if sheets else None)


def _config(path: pathlib.Path, notes: list[str]) -> dict[str, Any]:
  if not path.is_file():
    notes.append(f"It has no {CONFIG}: its keys are not compared.")
    return {}
  try:
    saved = json.loads(path.read_bytes())
    if not isinstance(saved, dict):
      raise ValueError("it holds no keys")
    if seals.problem(saved):
      notes.append(Damaged(f"{CONFIG}: {seals.problem(saved)}; {_TRAIN}."))
    saved.pop(seals.SEAL, None)
    return _flat(saved, notes)
  except (ValueError, RecursionError) as error:
    notes.append(Damaged(f"{CONFIG} is damaged ({error}): its keys are not compared; {_TRAIN}."))
    return {}


def _flat(saved: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  """An older config gets today's keys at the values it stood for; one of a newer version none."""
  try:
    return _plain(flat(schema.complete(saved)))
  except (ConfigError, AttributeError, KeyError, TypeError) as error:
    notes.append(f"{CONFIG} is of another version: {error}")
    return _plain(flat(saved))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
  return json.loads(json.dumps(config))


def _metrics(path: pathlib.Path, notes: list[str]) -> tuple[dict[str, Points], float | None]:
  """The series, and the time of the last row."""
  if not path.is_file():
    notes.append(f"It has no {JSON_LINES}: no curves.")
    return {}, None
  found: dict[str, dict[int, float]] = {}
  last, broken, rows = None, 0, 0
  with path.open(encoding="utf-8", errors="replace") as file:
    for line in filter(str.strip, file):
      row = _row(line)
      broken, rows = broken + (row is None), rows + (row is not None)
      for name, value in _numbers(row or {}):
        found.setdefault(name, {})[row["step"]] = value
      last = row.get("time", last) if row else last
  if broken:
    notes.append(
      f"{broken} of {counted(rows + broken, 'line')} of {JSON_LINES} cannot be read, which a write "
      "that was "
      "broken off leaves; the others are shown."
    )
  elif not rows:
    notes.append(f"{JSON_LINES} is empty: no step was logged yet.")
  known = type(last) in (int, float) and 0 <= last < 2**33  # what a calendar has
  return {name: sorted(points.items()) for name, points in found.items()}, last if known else None


def _row(line: str) -> dict[str, Any] | None:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  whole = isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < _MOST_STEPS
  return row if whole else None


def _numbers(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
  """Those that are not finite are texts in the file."""
  for name, value in row.items():
    if name in ("step", "time") or isinstance(value, bool):
      continue
    if isinstance(value, float) or value in ("nan", "inf", "-inf"):
      yield name, float(value)
    elif isinstance(value, int) and abs(value) < _MOST_STEPS:
      yield name, float(value)


def _kept(file: pathlib.Path, step: int, notes: list[str]) -> Kept | None:
  path = extremes.path_of(file, step)
  if not path.is_file():
    return None
  try:
    kept = extremes.read(path)
  except (OSError, ValueError) as error:
    said = f"evaluations/{path.name}: {error}; delete it, and {command(results.EVALUATE)}"
    notes.append(Damaged(f"{said} writes it anew."))
    return None
  return kept if kept.result == file.name else None
