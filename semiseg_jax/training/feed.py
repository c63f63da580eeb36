"""Keeps the next batches on the device while the current step runs."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


class InParts:
  """An iterator over stacks [parts, ...] of as many items of `source`; 1: over its items."""

  def __init__(self, source: Iterator[Any], parts: int):
    self._source, self._parts = source, parts

  def __iter__(self) -> "InParts":
    return self

  def __next__(self) -> Any:
    if self._parts == 1:
      return next(self._source)
    items = [next(self._source) for _ in range(self._parts)]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *items)

  def close(self) -> None:
    """Closes the source."""
    if hasattr(self._source, "close"):
      self._source.close()


class Prefetch:
  """An iterator that runs `place(next(source))` `depth` items ahead in a thread.

  An exception of the source or of `place` is raised by `next`, in the caller's thread.  `wait_s`
  is the total time in seconds that `next` had to wait: the device stood still for no longer.
  """

  def __init__(self, source: Iterator[Any], place: Callable[[Any], Any], depth: int = 2):
    self.wait_s = 0.0
    self._source = source
    self._queue: queue.Queue = queue.Queue(maxsize=depth)
    self._stop = threading.Event()
    self._ended: Exception | None = None
    self._thread = threading.Thread(
      target=self._run, args=(source, place), name="prefetch", daemon=True
    )
    self._thread.start()

  def _run(self, source: Iterator[Any], place: Callable[[Any], Any]) -> None:
    try:
      for item in source:
        self._put((place(item), None))
        if self._stop.is_set():
          return
      self._put((None, StopIteration()))
    except Exception as error:  # handed over, raised again in __next__
      self._put((None, error))

  def _put(self, item: tuple[Any, Exception | None]) -> None:
    while not self._stop.is_set():
      try:
        return self._queue.put(item, timeout=0.1)
      except queue.Full:
        continue

  def __iter__(self) -> "Prefetch":
    return self

  def __next__(self) -> Any:
    if self._ended is not None:
      raise self._ended
    start = time.perf_counter()
    item, self._ended = self._queue.get()
    self.wait_s += time.perf_counter() - start
    if self._ended is not None:
      raise self._ended
    return item

  def close(self) -> None:
    """Stops the thread and closes the source; the items ahead are dropped."""
    self._stop.set()
    self._thread.join(timeout=5)
    if not self._thread.is_alive() and hasattr(self._source, "close"):
      self._source.close()
