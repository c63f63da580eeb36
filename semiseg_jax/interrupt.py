"""SIGTERM and SIGINT: finish the step, save, leave; a second one stops at once."""

import signal
from types import FrameType


class Interrupt:
  """`asked` becomes true at the first SIGTERM or SIGINT."""

  def __init__(self):
    self.asked = False
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._note)

  def _note(self, number: int, frame: FrameType | None) -> None:
    self.asked = True
    signal.signal(number, signal.SIG_DFL)
