"""Processes that work through parts of a dataset, with one progress bar."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

Part = TypeVar("Part")
Result = TypeVar("Result")
_POLL_SECONDS = 0.2


class Progress:
  """What all processes share: how many pictures are done, and two flags."""

  def __init__(self, context: BaseContext, wrong: bool):
    self._done = context.Value("q", 0)
    self._wrong, self._stopped = (context.Value("b", flag, lock=False) for flag in (wrong, False))

  @property
  def done(self) -> int:
    """The number of pictures."""
    return self._done.value

  @property
  def wrong(self) -> bool:
    """Whether any process found something wrong; what that means is the work's."""
    return bool(self._wrong.value)

  @property
  def stopped(self) -> bool:
    """Whether the work shall be left off."""
    return bool(self._stopped.value)

  def count(self) -> None:
    """One more picture is done."""
    with self._done.get_lock():
      self._done.value += 1

  def set_wrong(self) -> None:
    """Tells all processes that something is wrong."""
    self._wrong.value = True

  def stop(self) -> None:
    """Tells all processes to leave off."""
    self._stopped.value = True


class _ShownProgress(Progress):
  """For work in the process of the bar."""

  def __init__(self, context: BaseContext, wrong: bool, bar: tqdm):
    super().__init__(context, wrong)
    self._bar = bar

  def count(self) -> None:
    super().count()
    self._bar.update()


def run(
  work: Callable[[Part, Progress], Result],
  parts: Sequence[Part],
  workers: int,
  bar: tqdm,
  wrong: bool = False,
) -> list[Result]:
  """`work` on each of the parts, which counts the pictures it has done; the results in order.

  Args:
    work: picklable, as are parts and results. Leaves off when the progress is `stopped`.
    parts: what there is to do.
    workers: number of processes besides this one, 0 for none.
    bar: counts the pictures.
    wrong: the flag of the progress to begin with.

  Raises:
    ChildProcessError: a process died.
    What `work` raises.
  """
  context = multiprocessing.get_context("spawn")
  if not workers:
    progress = _ShownProgress(context, wrong, bar)
    return [work(part, progress) for part in parts]
  if not parts:
    return []
  progress = Progress(context, wrong)
  pool = concurrent.futures.ProcessPoolExecutor(
    min(workers, len(parts)), context, _start, (progress,)
  )
  with pool:
    try:
      return _gather([pool.submit(_call, work, part) for part in parts], progress, bar)
    except BrokenProcessPool as error:
      raise ChildProcessError(
        "a process ended without a word, perhaps killed for want of memory (then use fewer "
        "--workers)"
      ) from error
    except BaseException:
      progress.stop()
      pool.shutdown(cancel_futures=True)
      raise


def _gather(futures: list[concurrent.futures.Future], progress: Progress, bar: tqdm) -> list[Any]:
  while True:
    state = concurrent.futures.wait(futures, _POLL_SECONDS, concurrent.futures.FIRST_EXCEPTION)
    bar.update(progress.done - bar.n + bar.initial)
    for future in state.done:
      future.result()  # raises what the process raised
    if not state.not_done:
      return [future.result() for future in futures]


def _start(progress: Progress) -> None:
  global _progress
  _progress = progress
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
  threading.Thread(target=_end_with_parent, daemon=True).start()
  cv2.setNumThreads(1)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _call(work: Callable[[Part, Progress], Result], part: Part) -> Result:
  return work(part, _progress)
