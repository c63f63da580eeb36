"""A trace of chosen steps, and the time that XLA compiled."""

import pathlib
from typing import Any

import jax
from absl import logging

_COMPILED = "/jax/core/compile/backend_compile_duration"


class Profile:
  """Records the steps first .. last (counted from 0) into WORKDIR/profile for TensorBoard or xprof.

  Args of the constructor:
    workdir: of the run.
    steps: (first, last), or empty: nothing is recorded.
  """

  def __init__(self, workdir: str, steps: tuple[int, ...]):
    self._folder = pathlib.Path(workdir) / "profile"
    self._first, self._last = steps or (None, None)
    self._running = False

  def before(self, t: int) -> None:
    """To be called before step t."""
    if t == self._first:
      jax.profiler.start_trace(str(self._folder))
      self._running = True

  def after(self, t: int, result: Any) -> None:
    """To be called after step t was dispatched; waits for the last one's `result`."""
    if self._running and t == self._last:
      jax.block_until_ready(result)
      self.close()
      logging.warning("Profile of steps %d to %d: %s", self._first, self._last, self._folder)

  def close(self) -> None:
    """Ends a recording that is under way."""
    if self._running:
      self._running = False
      jax.profiler.stop_trace()


class CompileClock:
  """Adds up the seconds that XLA compiled (or read from its cache) since it was made."""

  def __init__(self):
    self.seconds, self.programs = 0.0, 0
    jax.monitoring.register_event_duration_secs_listener(self._note)

  def _note(self, event: str, seconds: float, **unused: Any) -> None:
    if event == _COMPILED:
      self.seconds += seconds
      self.programs += 1

  def close(self) -> None:
    """Stops counting."""
    jax.monitoring.unregister_event_duration_listener(self._note)
