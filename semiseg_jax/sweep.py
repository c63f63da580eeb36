"""Runs a list of (config, seed) one after another, and writes one table and one report page.

    python -m semiseg_jax.sweep FILE.yaml --out=runs/sweep

FILE.yaml:

    defaults:                    # of every run; its own go before
      seeds: [0, 1]
      set: {train.steps: 300}
    runs:
      - config: configs/cps_toy.py:method=cps
      - {name: long, config: configs/cps_toy.py:method=unimatch, set: {train.steps: 900}}

Each run is a process of its own in OUT/runs/NAME/seed_N, on all devices there are.  OUT/table.md
and table.csv are written again after each.  The same command goes on after any interruption; what
is complete is not repeated.  Runs that were added to the file are run; those that were changed in
it are refused.  A run that fails is a line below the table; then the status is 1.

Results are ranked together where score, protocol, evaluated list and labeled list are the same;
others stand in tables of their own.
"""

import argparse
import contextlib
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from semiseg_jax import files
from semiseg_jax.arguments import Parser
from semiseg_jax.errors import ConfigError, UserError, ending
from semiseg_jax.reporting import writing
from semiseg_jax.sweeping import plan, processes, record, results, table
from semiseg_jax.sweeping.plan import Planned
from semiseg_jax.wording import counted
from semiseg_jax.workdir import compilation_cache, store

_MODULE = "semiseg_jax.sweep"
_CACHE = "--config.runtime.compilation_cache"


def main(argv: Sequence[str]) -> None:
  """Trains what is missing, and writes the table and the page."""
  options = _parse(argv)
  jax.config.update("jax_platforms", "cpu")  # nothing is computed here: the runs have the devices
  with ending("sweep", str(options.out)), processes.interruptible("sweep"):
    planned = plan.read(options.file, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    with _alone(options.out):
      for note in record.update(options.out, planned):
        print(f"NOTE {note}", flush=True)
      sweep = Sweep(f"Sweep of {options.file.name}", planned, options.out, options.per_class)
      sweep.take()
      print(f"\n{sweep.write()}\n  table   {options.out}/table.md, table.csv")
      problems = [*sweep.failures(), *sweep.report()]
      if problems:
        raise UserError("; ".join(problems))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = Parser(
    _MODULE,
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("file", metavar="FILE", type=pathlib.Path, help="YAML, see above")
  parser.add_argument("--out", required=True, help="folder of the sweep")
  parser.add_argument("--per_class", action="store_true", help="scores of every class as well")
  options = parser.parse_args(list(argv[1:]))
  with ending("sweep"):
    store.refuse(options.out, "--out")
  options.out = pathlib.Path(options.out)
  return options


@contextlib.contextmanager
def _alone(out: pathlib.Path) -> Iterator[None]:
  """One sweep at a time in a folder."""

  def refuse() -> None:
    raise ConfigError(
      f"another sweep is at work in {out}: wait for its end, or give another --out."
    )

  with files.locked(out / ".sweep.lock", refuse):
    yield


class Sweep:
  """The runs of a sweep and what they left.

  Args of the constructor:
    title: of the table.
    planned: the runs, in order.
    out: folder of the table.
    per_class: whether it has the scores of every class.
  """

  def __init__(self, title: str, planned: Sequence[Planned], out: pathlib.Path, per_class: bool):
    self._title, self._planned, self._out, self._per_class = title, planned, out, per_class
    self._cache = out / compilation_cache.OWN  # the seeds of a run are one program
    self._found: dict[str, dict[str, Any]] = {}
    self._faults: dict[str, str] = {}

  def tasks(self) -> list[processes.Task]:
    """Returns a process for each run; one that is complete has left its result."""
    return [self._task(run) for run in self._planned]

  def _task(self, run: Planned) -> processes.Task:
    own = () if run.config.runtime.compilation_cache else (f"{_CACHE}={self._cache}",)
    command = processes.python("semiseg_jax.main", *run.arguments, *own, f"--workdir={run.workdir}")
    read = lambda: results.final(run.config, run.workdir)
    return processes.Task(run.title, command, run.workdir.with_suffix(".log"), read, run.workdir)

  def take(self) -> None:
    """Trains what is missing; the table is written again after each run."""
    for task in (tasks := self.tasks()):
      if (fields := task.done()) is not None:
        self._found[task.title] = fields
    self.write()
    compilation_cache.clean(self._cache)
    ended = processes.run(tasks, 1, math.inf)
    with contextlib.closing(processes.told(ended, len(tasks), _said)) as told:
      for task, outcome in told:
        if outcome.value is None:
          self._faults[task.title] = outcome.fault
          compilation_cache.clean(self._cache)  # a killed run may have left half of an entry
        else:
          self._found[task.title] = outcome.value
          compilation_cache.seal(self._cache)
        self.write()

  def write(self) -> str:
    """Writes the table as it is, and returns it."""
    found = {
      (r.name, r.seed): self._found[r.title] for r in self._planned if r.title in self._found
    }
    missing = [
      f"{run.title}: {self._faults.get(run.title, 'not run yet')}"
      for run in self._planned
      if run.title not in self._found
    ]
    text = table.markdown(self._title, found, missing, per_class=self._per_class)
    files.write_text(self._out / "table.md", text)
    rows = table.comma_separated(found, per_class=self._per_class)
    files.write_text(self._out / "table.csv", rows)
    return text

  def report(self) -> list[str]:
    """Writes the page of all runs that have a result, and says where; returns what went wrong."""
    workdirs = [str(run.workdir) for run in self._planned if run.title in self._found]
    if not workdirs:
      return []
    damaged: list[str] = []
    try:
      place = writing.write(workdirs, str(self._out / "report.html"), damaged=damaged)
    except UserError as error:
      return [f"the page was not written: {error}"]
    print(f"  report  {place}")
    return damaged

  def failures(self) -> list[str]:
    """Returns a line where runs failed."""
    if not self._faults:
      return []
    failed = f"{len(self._faults)} of {counted(len(self._planned), 'run')} failed"
    return [f"{failed}, the lines below the table say why; the same command tries them again"]


def _said(task: processes.Task, outcome: processes.Outcome) -> str:
  if outcome.value is None:
    return f"FAILED: {outcome.fault}"
  name = results.score_name(outcome.value)
  return f"{table.NAMES[name]} {100 * outcome.value[name]:.2f}"


if __name__ == "__main__":
  main(sys.argv)
