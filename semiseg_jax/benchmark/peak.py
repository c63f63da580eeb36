"""Memory of a training host: this process and its readers, shared pages counted once."""

import threading

import psutil


class Peak:
  """Samples, while its `with` block lasts, the memory of this process and its descendants.

  `bytes` is the highest sum of proportional set sizes: a page that k processes share counts 1/k in
  each. Linux only; 0 elsewhere.
  """

  def __init__(self, every_s: float = 0.05):
    self.bytes = 0
    self._every_s, self._stop = every_s, threading.Event()
    self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

  def __enter__(self) -> "Peak":
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._stop.set()
    self._thread.join()

  def _run(self) -> None:
    this = psutil.Process()
    while not self._stop.wait(self._every_s):
      family = [this, *this.children(recursive=True)]
      self.bytes = max(self.bytes, sum(map(_proportional, family)))


def _proportional(process: psutil.Process) -> int:
  try:
    return getattr(process.memory_full_info(), "pss", 0)
  except psutil.Error:  # a process that has just ended
    return 0
