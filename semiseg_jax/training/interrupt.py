"""Being asked to stop: finish the step, save, leave."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

import jax

from semiseg_jax import signals


class Interrupt:
  """Whether the run was asked to stop; used as a context manager.

  In one process: SIGTERM or SIGINT asks, a second one stops at once, and the handlers there were
  before come back at the end.  Where a command watches signals, it has answered them already.  A
  thread other than the main one can have no handlers: there nobody asks.  In a distributed run the
  processes must stop after the same step, so `agreed` decides: jax's preemption service, which
  catches SIGTERM on any of them.

  Args of the constructor:
    agreed: step -> bool, the same answer on every process; called after every step.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self, agreed: Callable[[int], bool]):
    self._agreed, self._noted = agreed, False
    self._before: dict[int, signal.Handlers | Callable | int | None] = {}
    self._watch = signals.current()

  def __enter__(self) -> "Interrupt":
    if jax.distributed.is_initialized():  # our handler would hide the signal from jax's own
      return self
    if threading.current_thread() is threading.main_thread():
      if self._watch:
        self._watch.gentle = True  # from now on: what the loop saved is still being written
        self._noted = bool(self._watch.received)
      self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    self._noted = True
    if not self._watch:  # which ends the process at the second one
      signal.signal(number, self._before[number] or signal.SIG_DFL)

  def asked(self, step: int) -> bool:
    """Whether to stop after `step` steps."""
    return self._agreed(step) if jax.distributed.is_initialized() else self._noted
