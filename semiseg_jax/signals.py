"""Ctrl-C answered at once, whatever the main thread does.

Python runs a handler of signals between two of its own instructions: never while XLA compiles.
Here a thread reads the numbers of the signals as they come (`signal.set_wakeup_fd`), says what
happens, and ends the process: all that is written is whole or not there.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = 0  # no number of a signal: the thread is to end


class Watch:
  """What a command was asked by signals.

  Attributes:
    received: their numbers, in order.
    gentle: whether the first one only asks, and the second one ends the process; otherwise the
      first one does: KeyboardInterrupt would have to wait for XLA, and is lost in callbacks.
  """

  def __init__(self, leave: Callable[[int], None] | None = None):
    self.received: list[int] = []
    self.gentle = False
    self._leave = leave or _leave

  def handle(self, number: int, frame: FrameType | None) -> None:
    """Does nothing: Python wakes the thread only for signals that have a handler."""

  def listen(self, numbers: socket.socket) -> None:
    """Reads signals until _END; to be run in a thread."""
    while True:
      for number in numbers.recv(64):
        if number == _END:
          return
        if number in _SIGNALS:
          self._answer(number)

  def _answer(self, number: int) -> None:
    self.received.append(number)
    if self.gentle and len(self.received) == 1:
      say("stopping after this step, then saving; again: at once")
    else:
      say("stopped")
      self._leave(128 + number)


_watch: Watch | None = None


def current() -> Watch | None:
  """Returns the watch of the command that runs, if there is one."""
  return _watch


@contextlib.contextmanager
def answered(leave: Callable[[int], None] | None = None) -> Iterator[Watch]:
  """Inside, SIGINT is answered by a `Watch`; in threads other than the main one nothing is changed.

  Args:
    leave: ends the process with a status; by default at once, its children before it.
  """
  global _watch
  watch = Watch(leave)
  if threading.current_thread() is not threading.main_thread():
    yield watch
    return
  ours, theirs = socket.socketpair()
  theirs.setblocking(False)
  thread = threading.Thread(target=watch.listen, args=(ours,), name="signals", daemon=True)
  thread.start()
  handler = signal.signal(signal.SIGINT, watch.handle)
  wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
  outer, _watch = _watch, watch
  try:
    yield watch
  finally:
    _watch = outer
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
    theirs.send(bytes([_END]))
    thread.join()
    ours.close()
    theirs.close()


def say(text: str) -> None:
  """Writes a line to stderr past Python's buffers, which the main thread may hold."""
  os.write(2, f"\n{text}\n".encode())


def _leave(status: int) -> None:
  for child in multiprocessing.active_children():
    child.kill()
  os._exit(status)
