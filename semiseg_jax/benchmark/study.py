"""What unlabeled pictures are worth: every method at equal steps against supervised, in one table.

    python -m semiseg_jax.benchmark --what=study --workdir=runs/study
    python -m semiseg_jax.benchmark --what=study --workdir=runs/mine --config=configs/own.py \\
        --methods=unimatch,cps_cutmix --seeds=0,1,2 --config.data.root=data/mine
    python -m semiseg_jax.benchmark --what=study --workdir=runs/study --costs=only

Each run is a process of its own in WORKDIR/METHOD_SEED, and so is each measurement of a step (see
--what=relative; --costs=no leaves them out, --costs=only trains nothing).  WORKDIR/study.md and
study.csv are written again after each of them.  The same command goes on where it was interrupted;
what is complete is not repeated.  A method that fails is a line below the table; the status is 1
where no run has a value.

METHOD+TERM in --methods, such as unimatch+pixel_contrast, is a method with a term on top: the
arguments method=METHOD,add=TERM of the config file.

What is scored is the last checkpoint, by what the config evaluates.  A method in stages trains
train.steps in each; its step is the sum of those of its stages.
"""

import argparse
import contextlib
import importlib.util
import pathlib
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict

from semiseg_jax.arguments import command
from semiseg_jax.benchmark import arguments, study_table
from semiseg_jax.benchmark.study_table import BASELINE, Row
from semiseg_jax.config import command_line, config_files, rules
from semiseg_jax.errors import UserError, ending, refuse
from semiseg_jax.sweeping import processes, results
from semiseg_jax.sweeping.processes import Outcome, Task

_ALL = f"{BASELINE}, all labels"


def main(argv: Sequence[str]) -> None:
  """Measures, trains, and writes the table."""
  options, overrides = _parse(argv)
  with ending("study"), processes.interruptible("study"):
    study = Study(options, overrides)
    study.recall()
    if options.costs != "no":
      study.take(study.costs(), jobs=1)  # alone, so that nothing disturbs
    if options.costs != "only":
      study.take(study.runs(), options.jobs)
    print(study.write(), end="")
    if study.failed():
      raise UserError("nothing has a value; the lines below the table say why.")


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  parser = argparse.ArgumentParser(
    prog=f"{command('semiseg_jax.benchmark')} --what=study",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--workdir", required=True, type=arguments.folder, help="folder of the study")
  parser.add_argument("--config", default="configs/cps_toy.py", help="FILE.py:key=value,...")
  parser.add_argument("--methods", type=arguments.names, help="default: METHODS of the config file")
  parser.add_argument("--seeds", type=arguments.seeds, default=[0, 1], help="default: 0,1")
  parser.add_argument("--costs", choices=("yes", "no", "only"), default="yes", help="of a step")
  parser.add_argument("--jobs", type=arguments.whole(1), default=1, help="runs at a time")
  parser.add_argument(
    "--minutes", type=arguments.minutes, default=60, help="a run takes at most; then it fails"
  )
  parser.add_argument(
    "--all_labels", choices=("yes", "no"), default="yes", help="supervised on data.train as well"
  )
  options, rest = parser.parse_known_args(list(argv))
  wrong = [a for a in rest if not (a.startswith("--config.") and "=" in a)]
  if wrong:
    parser.error(f"{' '.join(wrong)}: neither an option nor --config.KEY=VALUE")
  chosen = options.config.partition(":")[2].split(",")
  if any(item.startswith(("method=", "add=")) for item in chosen):
    parser.error(f"--config={options.config}: --methods says which methods")
  return options, rest


class Study:
  """The rows of a study, and the processes that fill them."""

  def __init__(self, options: argparse.Namespace, overrides: Sequence[str]):
    self._options, self._overrides = options, list(overrides)
    file = options.config.partition(":")[0]
    names = list(dict.fromkeys([BASELINE, *(options.methods or _methods(file))]))
    self._configs: dict[tuple[str, int], ConfigDict] = {}
    self._rows = {name: Row(name) for name in names}
    for name in names:
      for seed in options.seeds:
        self._add(name, seed, self._arguments(name, seed))
    if options.all_labels == "yes" and (BASELINE, options.seeds[0]) in self._configs:
      train = self._configs[BASELINE, options.seeds[0]].data.train
      self._rows[_ALL] = Row(_ALL)
      for seed in options.seeds:
        arguments = [*self._arguments(BASELINE, seed), f"--config.data.labeled={train}"]
        self._add(_ALL, seed, arguments)

  def _arguments(self, method: str, seed: int, flag: str = "config") -> list[str]:
    file, _, chosen = self._options.config.partition(":")
    name, _, added = method.partition("+")
    terms = f"add={added}" if added else ""
    chosen = ",".join(filter(None, (chosen, f"method={name}", terms)))
    keys = [*self._overrides, "--config.eval.every=0", f"--config.seed={seed}"]
    return [f"--{flag}={file}:{chosen}", *(k.replace("--config", f"--{flag}", 1) for k in keys)]

  def _add(self, name: str, seed: int, arguments: list[str]) -> None:
    row = self._rows[name]
    try:
      config = command_line.read(arguments, "study")
      rules.validate(config)
    except (SystemExit, UserError) as error:  # costs its own row only
      row.faults = [" ".join(str(error).split())]
      return
    self._configs[name, seed] = config
    row.evaluated = evaluated(config)

  def costs(self) -> Iterable[Task]:
    """Yields the measurement of a step of every method but the baseline."""
    seed = self._options.seeds[0]
    self._rows[BASELINE].step = 1.0
    for name in (n for n in self._rows if n not in (BASELINE, _ALL) and (n, seed) in self._configs):
      out = self._options.workdir / "costs" / f"{name}.json"
      command = processes.python(
        *("semiseg_jax.benchmark", "--what=relative", f"--out={out}"),
        f"--cache={out.with_name('cache')}",
        *self._arguments(name, seed),
        *self._arguments(BASELINE, seed, "against"),
      )
      read = lambda out=out: _cost(out)
      yield Task(f"{name}, step", command, out.with_suffix(".log"), read)

  def runs(self) -> Iterable[Task]:
    """Yields every run: all methods with the first seed, then with the next."""
    for (name, seed), config in sorted(self._configs.items(), key=lambda item: item[0][1]):
      folder = self._options.workdir / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
      method = BASELINE if name == _ALL else name
      arguments = self._arguments(method, seed)
      if name == _ALL:
        arguments.append(f"--config.data.labeled={config.data.labeled}")
      command = processes.python("semiseg_jax.main", *arguments, f"--workdir={folder}")
      read = lambda config=config, folder=folder: _miou(config, folder)
      yield Task(f"{name}, seed {seed}", command, folder.with_suffix(".log"), read, folder)

  def recall(self) -> None:
    """Fills in what earlier commands left."""
    for task in [*self.costs(), *self.runs()]:
      value = task.done()
      if value is not None:
        self._keep(task.title, Outcome(value))

  def take(self, tasks: Iterable[Task], jobs: int) -> None:
    """Runs tasks and keeps what they leave."""
    tasks = list(tasks)
    ended = processes.run(tasks, jobs, 60 * self._options.minutes)
    with contextlib.closing(processes.told(ended, len(tasks), _said)) as told:
      for task, outcome in told:
        self._keep(task.title, outcome)
        self.write()

  def _keep(self, title: str, outcome: Outcome) -> None:
    name, _, what = title.rpartition(", ")
    row = self._rows[name]
    if outcome.value is None:
      row.faults.append(f"{what}: {outcome.fault}")
    elif what == "step":
      row.step = outcome.value
    else:
      row.miou[int(what.removeprefix("seed "))] = outcome.value

  def write(self) -> str:
    """Writes the table as it is, and returns it."""
    title = self._title()
    rows, seeds = list(self._rows.values()), self._options.seeds
    study_table.write(self._options.workdir, title, rows, seeds)
    return study_table.markdown(title, rows, seeds)

  def failed(self) -> bool:
    """Whether no run has a value; with --costs=only, whether all measurements failed."""
    rows = self._rows.values()
    if self._options.costs != "only":
      return not any(row.miou for row in rows)
    return any(row.faults for row in rows) and not any(
      row.step for row in rows if row.method != BASELINE
    )

  def _title(self) -> str:
    config = next(iter(self._configs.values()), None)
    if config is None:
      return self._options.config
    t = config.train
    return (
      f"`{self._options.config}`: mIoU on `{config.data.val}` in percent after {t.steps} steps of "
      f"{t.batch_labeled} labeled and {t.batch_unlabeled} unlabeled pictures, labels of "
      f"`{config.data.labeled}`; difference to supervised, mean over the seeds; time of a step "
      "relative to supervised."
    )


def evaluated(config: ConfigDict) -> str:
  """Returns which network is scored: 'network 0 of 2', 'teacher', 'mean of 2'."""
  what, n = config.eval.stack or "network", config.method.networks
  if config.eval.network == "mean":
    return f"mean of {n}" + f", {config.eval.stack}" * bool(config.eval.stack)
  return what if n == 1 else f"{what} {config.eval.network} of {n}"


def _cost(file: pathlib.Path) -> float | None:
  """What --what=relative wrote; None: it is not there, or cannot be read."""
  found = results.fields_of(file).get("relative")
  return float(found) if isinstance(found, int | float) else None


def _miou(config: ConfigDict, workdir: pathlib.Path) -> float | None:
  """The final mIoU of a run, a fraction; None: it is not complete, or of another config."""
  return (results.final(config, workdir) or {}).get("miou")


def _said(task: Task, outcome: Outcome) -> str:
  if outcome.value is None:
    return f"FAILED: {outcome.fault}"
  if task.title.endswith(" step"):
    return f"{outcome.value:.2f} x supervised"
  return f"mIoU {100 * outcome.value:.2f}"


def _methods(file: str) -> tuple[str, ...]:
  """Returns METHODS of a config file."""
  with ending("study"):
    spec = importlib.util.spec_from_file_location("study_config", config_files.locate(file))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  if not hasattr(module, "METHODS"):
    refuse(f"study: {file} names no METHODS: say which with --methods=supervised,...")
  return tuple(module.METHODS)
