"""The runs of a study: each a process of its own, and what it left."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from ml_collections import ConfigDict

from semiseg_jax import train
from semiseg_jax.config import schema
from semiseg_jax.errors import CheckpointError, UserError
from semiseg_jax.evaluation import described, protocol, result_files
from semiseg_jax.options import flat

_GRACE = 60  # seconds between asking a process to end and ending it


@dataclasses.dataclass(frozen=True)
class Task:
  """A process of a study.

  Attributes:
    title: for people.
    command: what is started.
    log: the file that takes what it prints.
    done: returns what it left, None as long as that is not there.
  """

  title: str
  command: tuple[str, ...]
  log: pathlib.Path
  done: Callable[[], float | None]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """value: what a task left, None where it failed.  fault: why.  seconds: 0 = it was there."""

  value: float | None
  fault: str = ""
  seconds: float = 0.0


def python(*arguments: str) -> tuple[str, ...]:
  """Returns the command that runs a module of this program."""
  return (sys.executable, "-m", *arguments)


def cost(file: pathlib.Path) -> float | None:
  """Returns what --what=relative wrote; None: it is not there, or cannot be read."""
  found = _fields(file).get("relative")
  return float(found) if isinstance(found, int | float) else None


def _fields(file: pathlib.Path) -> dict:
  """The fields of a JSON file; none of one that is absent or damaged."""
  try:
    return result_files.read(file)
  except (FileNotFoundError, ValueError):
    return {}


def miou(config: ConfigDict, workdir: pathlib.Path) -> float | None:
  """Returns the final mIoU of a run, a fraction; None: it is not complete, or of another config."""
  last = train.stage_configs(config, str(workdir))[-1]
  how = json.loads(json.dumps(protocol.from_config(last.eval).as_dict()))
  try:
    folder = described.last_stage(workdir)
  except CheckpointError:  # the run mends it
    return None
  for file in sorted((folder / "evaluations").glob("*.json")):
    fields = _fields(file)
    if not {"checkpoint_step", "protocol", "config", "miou"} <= fields.keys():
      continue
    final = fields["checkpoint_step"] == last.train.steps and fields["protocol"] == how
    if final and _same(fields["config"], last):
      return fields["miou"]
  return None


def _same(saved: dict, config: ConfigDict) -> bool:
  """Whether two configs are those of the same run."""
  try:
    old = flat(schema.complete(saved))
  except UserError:  # of another version
    return False
  now, free = flat(json.loads(config.to_json())), schema.free()
  return all(schema.plain(old[k]) == schema.plain(now[k]) for k in now if k not in free)


def run(tasks: Sequence[Task], jobs: int, limit: float) -> Iterator[tuple[Task, Outcome]]:
  """Runs tasks, `jobs` at a time, and yields each as it ends; one that is done is not started.

  A task that fails, or takes more than `limit` seconds, is an outcome like any other.
  """
  waiting, running = list(tasks), []
  try:
    while waiting or running:
      while waiting and len(running) < jobs:
        task = waiting.pop(0)
        value = task.done()
        if value is not None:
          yield task, Outcome(value)
          continue
        running.append(_Process(task))
      for process in [p for p in running if p.ended(limit)]:
        running.remove(process)
        yield process.task, process.outcome(limit)
      time.sleep(0.1 if running else 0)
  finally:  # also when somebody interrupts the study
    for process in running:
      process.ask()
    for process in running:
      process.stop()


class _Process:
  """A task that runs."""

  def __init__(self, task: Task):
    self.task, self._began, self._late = task, time.monotonic(), False
    task.log.parent.mkdir(parents=True, exist_ok=True)
    self._log: IO = task.log.open("w")
    self._process = subprocess.Popen(task.command, stdout=self._log, stderr=subprocess.STDOUT)

  def ended(self, limit: float) -> bool:
    """Whether it is over; one that takes longer than `limit` seconds is stopped."""
    if self._process.poll() is None and time.monotonic() - self._began > limit:
      self._late = True
      self.stop()
    return self._process.poll() is not None

  def ask(self) -> None:
    """Asks the process to end; a run saves its state first."""
    self._process.terminate()

  def stop(self) -> None:
    """Asks the process to end, and ends it if it does not."""
    self.ask()
    try:
      self._process.wait(_GRACE)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def outcome(self, limit: float) -> Outcome:
    """Returns what it left, or the last line that it printed."""
    self._log.close()
    value, seconds = self.task.done(), time.monotonic() - self._began
    if value is not None:
      return Outcome(value, seconds=seconds)
    said = self.task.log.read_text(errors="replace").splitlines()
    lines = [line for line in said if line.strip()]
    why = f"ended after {limit:.0f} s" if self._late else lines[-1] if lines else "it said nothing"
    return Outcome(None, f"{why} ({self.task.log})", seconds)
