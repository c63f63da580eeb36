"""Being asked to stop: finish the step, save, leave."""

import signal
from collections.abc import Callable
from types import FrameType

import jax


class Interrupt:
  """Whether the run was asked to stop; used as a context manager.

  In one process: SIGTERM or SIGINT asks, a second one stops at once, and the handlers there were
  before come back at the end.  In a distributed run the processes must stop after the same step, so
  `agreed` decides: jax's preemption service, which catches SIGTERM on any of them.

  Args of the constructor:
    agreed: step -> bool, the same answer on every process; called after every step.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self, agreed: Callable[[int], bool]):
    self._agreed, self._noted = agreed, False
    self._before: dict[int, signal.Handlers | Callable | int | None] = {}

  def __enter__(self) -> "Interrupt":
    if not jax.distributed.is_initialized():  # our handler would hide the signal from jax's own
      self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    self._noted = True
    signal.signal(number, self._before[number] or signal.SIG_DFL)

  def asked(self, step: int) -> bool:
    """Whether to stop after `step` steps."""
    return self._agreed(step) if jax.distributed.is_initialized() else self._noted
