"""Names of the shared memory of a run, so that the next start removes what a killed one left.

Processes that read pictures hand batches over in blocks of shared memory.  Where all processes of
a run are killed at once, Python's tracker of such blocks among them, nobody removes these: they
stay in /dev/shm until the machine restarts.  So a block, or a semaphore, carries the mark of its
run, whose lock ends with the process that holds it, however that ends and whoever gets its number
next.
"""

import atexit
import functools
import multiprocessing
import os
import pathlib
import secrets
from collections.abc import Iterator
from multiprocessing import shared_memory
from typing import Any

import filelock

SHARED = pathlib.Path("/dev/shm")
_PREFIX = "semiseg_"


def mark(folder: pathlib.Path = SHARED) -> tuple[str, filelock.BaseFileLock] | None:
  """Returns a new mark, and the lock that keeps it as long as this process lives.

  None where shared memory has no folder, as outside of Linux, or nothing can be written there.
  """
  while os.access(folder, os.W_OK):
    name = f"{_PREFIX}{os.getpid()}_{secrets.token_hex(2)}"
    lock = _lock(folder / name)
    try:
      lock.acquire(blocking=False)
    except filelock.Timeout:  # another start looked whether it is that of a dead run
      continue
    if (folder / name).exists():
      return name, lock
    lock.release()
  return None


def remove_dead(folder: pathlib.Path = SHARED) -> int:
  """Removes the blocks of runs that are gone; returns their number."""
  return sum(_remove(marker) for marker in _markers(folder))


def _markers(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  if folder.is_dir():
    for path in sorted(folder.glob(f"{_PREFIX}*_*")):
      try:
        is_ours = path.stat().st_uid == os.getuid()
      except FileNotFoundError:
        continue
      if path.name.count("_") == 2 and is_ours:
        yield path


def _remove(marker: pathlib.Path) -> int:
  lock = _lock(marker)
  try:
    lock.acquire(blocking=False)
  except (filelock.Timeout, OSError):  # it lives, or is another's
    return 0
  try:
    of_run = (f"{marker.name}_*", f"sem.{marker.name}-*")
    blocks = [path for pattern in of_run for path in marker.parent.glob(pattern)]
    for path in (*blocks, marker):
      path.unlink(missing_ok=True)
  finally:
    lock.release()
  return len(blocks)


def _lock(path: pathlib.Path) -> filelock.BaseFileLock:
  return filelock.FileLock(path, thread_local=False, fallback_to_soft=False)


@functools.cache
def of_this_process() -> str | None:
  """The mark of this process, made at the first call; None as `mark`."""
  found = mark()
  if found is None:
    return None
  name, lock = found
  # Of the semaphores that this process makes and hands to others; multiprocessing has no option.
  multiprocessing.current_process()._config["semprefix"] = f"/{name}"
  atexit.register(_end, SHARED / name, lock)
  return name


def _end(marker: pathlib.Path, lock: filelock.BaseFileLock) -> None:
  marker.unlink(missing_ok=True)
  lock.release()


class Block(shared_memory.SharedMemory):
  """A block of shared memory that is named after its run where no name is given."""

  run: str | None = None

  def __init__(self, name: str | None = None, create: bool = False, size: int = 0, **options: Any):
    if create and name is None and self.run:
      name = f"{self.run}_{secrets.token_hex(5)}"
    super().__init__(name, create, size, **options)


def name_blocks(run: str | None) -> None:
  """Blocks that this process makes carry the mark of a run; grain has no option for names."""
  Block.run = run
  if run:
    shared_memory.SharedMemory = Block
