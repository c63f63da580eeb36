"""Processes that work through parts of a dataset, with one progress bar."""

import argparse
import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import cv2

from semiseg_jax import progress

Part = TypeVar("Part")
Result = TypeVar("Result")
_POLL_SECONDS = 0.2


class Progress:
  """Progress of work that runs in the main process.

  Attributes:
    wrong: whether any part has found an error; the work decides what it then does.
    stopped: whether the work should stop.
  """

  def __init__(self, wrong: bool, bar: progress.Progress):
    self.wrong, self.stopped, self._bar = wrong, False, bar

  def count(self) -> None:
    """Counts one finished picture."""
    self._bar.advance()

  def set_wrong(self) -> None:
    """Tells all processes that an error was found."""
    self.wrong = True


class _SharedProgress:
  """The same fields and methods, for work that runs in several processes."""

  def __init__(self, context: BaseContext, wrong: bool):
    self._done = context.Value("q", 0)
    self._wrong, self._stopped = (context.Value("b", flag, lock=False) for flag in (wrong, False))

  @property
  def done(self) -> int:
    return self._done.value

  @property
  def wrong(self) -> bool:
    return bool(self._wrong.value)

  @property
  def stopped(self) -> bool:
    return bool(self._stopped.value)

  def count(self) -> None:
    with self._done.get_lock():
      self._done.value += 1

  def set_wrong(self) -> None:
    self._wrong.value = True

  def stop(self) -> None:
    self._stopped.value = True


def run(
  work: Callable[[Part, Progress], Result],
  parts: Sequence[Part],
  workers: int,
  bar: progress.Progress,
  wrong: bool = False,
) -> list[Result]:
  """Calls `work(part, progress)` for each part, in `workers` processes.

  Args:
    work: picklable, as are parts and results; counts its pictures, and returns when `stopped`.
    parts: one argument of `work` each.
    workers: number of processes; 0: the parts run one after the other in this process.
    bar: shows the pictures of all processes.
    wrong: initial value of `Progress.wrong`.

  Returns:
    The results in the order of `parts`.

  Raises:
    ChildProcessError: a process died.
    Exception: the first one that `work` raises; the other processes are stopped.
  """
  if not workers:
    alone = Progress(wrong, bar)
    return [work(part, alone) for part in parts]
  if not parts:
    return []
  context = multiprocessing.get_context("spawn")
  shared = _SharedProgress(context, wrong)
  pool = concurrent.futures.ProcessPoolExecutor(
    min(workers, len(parts)), context, _start, (shared,)
  )
  with pool:
    try:
      return _gather([pool.submit(_call, work, part) for part in parts], shared, bar)
    except BrokenProcessPool as error:
      raise ChildProcessError(
        "a process ended without a word, perhaps killed for want of memory (then use fewer "
        "--workers)"
      ) from error
    except BaseException:
      shared.stop()
      pool.shutdown(cancel_futures=True)
      raise


def counter(total: int, title: str, start: int = 0) -> progress.Progress:
  """Returns a bar of `total` pictures on stderr, see `progress.Progress`."""
  return progress.Progress(total, start=start, title=title, stream=sys.stderr)


def add_flag(parser: argparse.ArgumentParser) -> None:
  """The flag --workers."""
  parser.add_argument(
    "--workers",
    type=_number,
    default=os.cpu_count() or 1,
    help="number of processes, 0 for none besides this one (%(default)s); the result is the same",
  )


def _number(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 on")
  return int(text)


def _gather(
  futures: list[concurrent.futures.Future], shared: _SharedProgress, bar: progress.Progress
) -> list[Any]:
  before = bar.step
  while True:
    state = concurrent.futures.wait(futures, _POLL_SECONDS, concurrent.futures.FIRST_EXCEPTION)
    bar.update(before + shared.done)
    for future in state.done:
      future.result()  # raises what the process raised
    if not state.not_done:
      return [future.result() for future in futures]


def _start(shared: _SharedProgress) -> None:
  global _shared
  _shared = shared
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
  threading.Thread(target=_end_with_parent, daemon=True).start()
  cv2.setNumThreads(1)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _call(work: Callable[[Part, Progress], Result], part: Part) -> Result:
  return work(part, _shared)
