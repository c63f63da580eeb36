"""Memory of a training host: this process and its readers, shared pages counted once."""

import os
import pathlib
import threading


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
    while not self._stop.wait(self._every_s):
      self.bytes = max(self.bytes, sum(map(_proportional, _family(os.getpid()))))


def _family(pid: int) -> list[int]:
  found = [pid]
  for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
    found += [p for child in _text(task).split() for p in _family(int(child))]
  return found


def _proportional(pid: int) -> int:
  for line in _text(pathlib.Path(f"/proc/{pid}/smaps_rollup")).splitlines():
    if line.startswith("Pss:"):
      return 1024 * int(line.split()[1])
  return 0


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except OSError:  # a process that has just ended
    return ""
