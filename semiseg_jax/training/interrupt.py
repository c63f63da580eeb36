"""Being asked to stop: finish the step, save, leave."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

from semiseg_jax import signals


class Interrupt:
  """Whether the run was asked to stop; used as a context manager.

  SIGTERM or SIGINT asks, a second one stops at once, and the handlers there were before come back
  at the end.  Where a command watches signals, it has answered them already.  A thread other than
  the main one can have no handlers: there nobody asks.

  In a distributed run the processes must stop after the same step, so `agreed` decides: jax's
  preemption service, which catches SIGTERM on any of them and tells the others.  SIGINT is passed
  on to it as SIGTERM.

  Args of the constructor:
    agreed: step -> bool, the same answer on every process; called after every step.
  """

  def __init__(self, agreed: Callable[[int], bool]):
    self._agreed, self._noted = agreed, False
    self._distributed = jax.distributed.is_initialized()
    self._before: dict[int, signal.Handlers | Callable | int | None] = {}
    self._watch = signals.current()

  def __enter__(self) -> "Interrupt":
    if threading.current_thread() is not threading.main_thread():
      return self
    if self._watch:
      self._watch.gentle = True  # from now on: what the loop saved is still being written
      self._noted = bool(self._watch.received)
    # Of a distributed run, SIGTERM's handler is jax's own; ours would hide the signal from it.
    numbers = (signal.SIGINT,) if self._distributed else (signal.SIGTERM, signal.SIGINT)
    self._before = {number: signal.signal(number, self._note) for number in numbers}
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._distributed and not self._noted:
      os.kill(os.getpid(), signal.SIGTERM)
    self._noted = True
    if not self._watch:  # which ends the process at the second one
      signal.signal(number, self._before[number] or signal.SIG_DFL)

  def asked(self, step: int) -> bool:
    """Whether to stop after `step` steps."""
    if not self._distributed:
      return self._noted
    stop = self._agreed(step)
    if stop and self._watch:
      # Any of them had Ctrl-C: all end as it does.
      interrupted = multihost_utils.process_allgather(np.int32(self._noted)).any()
      self._watch.received = [signal.SIGINT if interrupted else signal.SIGTERM]
    return stop


def before_artifacts() -> bool:
  """Whether a run in stages was asked to stop after a stage; what comes then saves nothing.

  From now on the first signal ends the process: artifacts are whole or not there.  Several
  processes stop in the next stage, where they agree.
  """
  watch = signals.current()
  if watch is None or jax.distributed.is_initialized():
    return False
  watch.gentle = False
  return bool(watch.received)
