"""Runs as processes of their own, one after the other or a few at a time, and what they left."""

import contextlib
import dataclasses
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from semiseg_jax.workdir import run_lock

_GRACE = 60  # seconds between asking a process that takes too long to end, and ending it
_POLL_S = 0.1
_SHOWN = 300  # letters of what a process said
_OWN_WORDS = re.compile(r"(main|benchmark): ")  # the last line of a command that failed


@dataclasses.dataclass(frozen=True)
class Task:
  """A process, and what it is to leave.

  Attributes:
    title: for people.
    command: what is started.
    log: the file to which what it prints is added.
    done: returns what it left, None as long as that is not there.
    workdir: of the run that it trains, None where it trains none.
  """

  title: str
  command: tuple[str, ...]
  log: pathlib.Path
  done: Callable[[], Any]
  workdir: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """value: what a task left, None where it failed.  fault: why.  seconds: 0 = it was there."""

  value: Any
  fault: str = ""
  seconds: float = 0.0


def python(*arguments: str) -> tuple[str, ...]:
  """Returns the command that runs a module of this program, and ends with this process."""
  return (sys.executable, "-m", "semiseg_jax.sweeping.child", *arguments)


@contextlib.contextmanager
def interruptible(command: str) -> Iterator[None]:
  """Inside, Ctrl-C and SIGTERM end the command with 130 and 143, and a word on how to go on."""
  said = f"{command}: interrupted; the same command goes on."

  def end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)

  before = signal.signal(signal.SIGTERM, end)
  try:
    yield
  except KeyboardInterrupt:
    print(said, file=sys.stderr, flush=True)
    raise SystemExit(128 + signal.SIGINT) from None
  except SystemExit as error:
    if error.code == 128 + signal.SIGTERM:
      print(said, file=sys.stderr, flush=True)
    raise
  finally:
    signal.signal(signal.SIGTERM, before)


def run(tasks: Sequence[Task], jobs: int, limit: float) -> Iterator[tuple[Task, Outcome]]:
  """Runs tasks, `jobs` at a time, and yields each as it ends; one that is done is not started.

  A task that fails, or takes more than `limit` seconds, is an outcome like any other.  An interrupt
  asks the processes to end, and waits: a run finishes its step and saves.  A second one ends them.
  """
  waiting, running = list(tasks), []
  try:
    while waiting or running:
      while waiting and len(running) < jobs:
        task = waiting.pop(0)
        value = _left(task)
        if value is not None:
          yield task, Outcome(value)
          continue
        running.append(_Process(task))
      for process in [p for p in running if p.ended(limit)]:
        running.remove(process)
        yield process.task, process.outcome(limit)
      time.sleep(_POLL_S if running else 0)
  finally:  # also when somebody interrupts
    if running:
      print("stopping: what runs ends its step and saves; again: at once", file=sys.stderr)
    for process in running:
      process.ask()
    for process in running:
      process.wait()


def told(
  ended: Iterator[tuple[Task, Outcome]], total: int, said: Callable[[Task, Outcome], str]
) -> Iterator[tuple[Task, Outcome]]:
  """Yields what `run` yields, and prints a line for each; an interrupt ends the processes.

  Args:
    ended: of `run`.
    total: the number of tasks.
    said: what to say of an outcome.
  """
  began, fresh = time.monotonic(), 0
  with contextlib.closing(ended):
    for number, (task, outcome) in enumerate(ended, 1):
      yield task, outcome
      fresh += outcome.seconds > 0
      took = f" in {outcome.seconds:.0f} s" if outcome.seconds else ", was there"
      pace = (time.monotonic() - began) / max(fresh, 1)
      left = f"  about {pace * (total - number) / 60:.0f} min left" * (fresh > 0)
      text = said(task, outcome) + took * (outcome.value is not None)
      print(f"[{number}/{total}] {task.title}: {text}{left}", flush=True)


def _left(task: Task) -> Any:
  """What a task left; waits for a process of an earlier command that still trains there."""
  value, said = task.done(), False
  while value is None and task.workdir and (who := run_lock.living(task.workdir)):
    if not said:
      print(f"{task.title}: {who} still trains in {task.workdir}; waiting for its end", flush=True)
    said = True
    time.sleep(10 * _POLL_S)
    value = task.done()
  return value


class _Process:
  """A task that runs."""

  def __init__(self, task: Task):
    self.task, self._began, self._late = task, time.monotonic(), False
    task.log.parent.mkdir(parents=True, exist_ok=True)
    self._log: IO = task.log.open("ab")
    self._from = self._log.tell()
    # A group of its own: Ctrl-C at the keyboard would ask it once, and `ask` a second time.
    self._process = subprocess.Popen(
      task.command,
      stdin=subprocess.PIPE,
      stdout=self._log,
      stderr=subprocess.STDOUT,
      process_group=0,
    )

  def ended(self, limit: float) -> bool:
    """Whether it is over; one that takes longer than `limit` seconds is stopped."""
    if self._process.poll() is None and time.monotonic() - self._began > limit:
      self._late = True
      self._stop()
    return self._process.poll() is not None

  def ask(self) -> None:
    """Asks the process to end; a run saves its state first."""
    self._process.terminate()

  def wait(self) -> None:
    """Waits for the end of a process that was asked; an interrupt ends it at once."""
    try:
      self._process.wait()
    finally:
      self._process.kill()
      self._process.wait()

  def _stop(self) -> None:
    """Asks the process to end, and ends it if it does not."""
    self.ask()
    try:
      self._process.wait(_GRACE)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def outcome(self, limit: float) -> Outcome:
    """Returns what it left, or what it said at its end."""
    self._log.close()
    self._process.stdin.close()
    value, seconds = self.task.done(), time.monotonic() - self._began
    if value is not None:
      return Outcome(value, seconds=seconds)
    if self._late:
      why = f"ended after {limit:.0f} s"
    else:
      said = self.task.log.read_bytes()[self._from :].decode(errors="replace")
      why = reason(said, self._process.returncode)
    return Outcome(None, f"{why} ({self.task.log})", seconds)


def reason(said: str, status: int) -> str:
  """Returns why a process failed, in one line.

  Args:
    said: all that it printed.
    status: its exit status, negative for a signal.
  """
  if status < 0:
    killed = status == -signal.SIGKILL
    return f"ended by {signal.Signals(-status).name}" + ", out of memory?" * killed
  lines = [line.strip() for line in said.splitlines() if line.strip()]
  own = [i for i, line in enumerate(lines) if _OWN_WORDS.match(line)]
  text = " ".join(lines[own[-1] :] if own else lines[-1:]) or "it said nothing"
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
