"""The processes that make the shards of a preparation."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext

import cv2
from tqdm import tqdm

from data_prep.convert_plan import Item, Job, Part
from semiseg_jax.data.records import DataError
from semiseg_jax.data.shards import Encoded, ShardWriter

_WRITE, _CHECK, _STOP = 0, 1, 2  # check: something is wrong, only look for what else is
_POLL_SECONDS = 0.2


class _Progress:
  """What the processes share: how many pictures are done, and what to do with the others."""

  def __init__(self, context: BaseContext, mode: int):
    self._done, self._mode = context.Value("q", 0), context.Value("i", mode)

  @property
  def done(self) -> int:
    return self._done.value

  @property
  def mode(self) -> int:
    return self._mode.value

  def count(self) -> None:
    with self._done.get_lock():
      self._done.value += 1

  def raise_mode(self, mode: int) -> None:
    with self._mode.get_lock():
      self._mode.value = max(self._mode.value, mode)


def run(job: Job, parts: Sequence[Part], workers: int, only_check: bool, bar: tqdm) -> list[str]:
  """Makes the shards of the parts; returns what is wrong with their items, in the order of these.

  Args:
    job, parts: what is to be made.
    workers: number of processes besides this one, 0 for none.
    only_check: write nothing, look for what is wrong.
    bar: counts the items.

  Raises:
    OSError: a shard cannot be written, or a process died.
  """
  context = multiprocessing.get_context("spawn")
  progress = _Progress(context, _CHECK if only_check else _WRITE)
  if not workers:
    return [line for part in parts for line in _make_shard(job, part, progress, bar)]
  if not parts:
    return []
  pool = concurrent.futures.ProcessPoolExecutor(
    min(workers, len(parts)), context, _start_worker, (progress,)
  )
  with pool:
    try:
      return _gather([pool.submit(_work, job, part) for part in parts], progress, bar)
    except BrokenProcessPool as error:
      raise ChildProcessError(
        "a process ended without a word, perhaps killed for want of memory (then use fewer "
        "--workers)"
      ) from error
    except BaseException:
      progress.raise_mode(_STOP)
      pool.shutdown(cancel_futures=True)
      raise


def _gather(futures: list[concurrent.futures.Future], progress: _Progress, bar: tqdm) -> list[str]:
  while True:
    state = concurrent.futures.wait(futures, _POLL_SECONDS, concurrent.futures.FIRST_EXCEPTION)
    bar.update(progress.done - bar.n + bar.initial)
    for future in state.done:
      future.result()  # raises what the process raised
    if not state.not_done:
      return [line for future in futures for line in future.result()]


def _start_worker(progress: _Progress) -> None:
  global _progress
  _progress = progress
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
  threading.Thread(target=_end_with_parent, daemon=True).start()
  cv2.setNumThreads(1)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _work(job: Job, part: Part) -> list[str]:
  return _make_shard(job, part, _progress, None)


def _make_shard(job: Job, part: Part, progress: _Progress, bar: tqdm | None) -> list[str]:
  """Writes a part's shard, or returns what is wrong with its items."""
  problems: list[str] = []
  writer = ShardWriter(job.path(part), job.key)
  try:
    for item in part.items:
      if progress.mode == _STOP:
        break
      encoded = _encode(job, item, problems)
      if problems:
        progress.raise_mode(_CHECK)
      if progress.mode == _WRITE:
        writer.append(encoded)
      progress.count()
      if bar is not None:
        bar.update()
    if progress.mode == _WRITE:
      writer.close()
  finally:
    writer.discard()
  return problems


def _encode(job: Job, item: Item, problems: list[str]) -> Encoded | None:
  try:
    loaded = job.load(item)
    return job.encoder.encode(item.id, loaded.image, loaded.label)
  except DataError as error:
    problems += str(error).splitlines()
  except OSError as error:
    problems.append(f"picture {item.id!r} cannot be read ({error}); mend its source or remove it")
  return None
