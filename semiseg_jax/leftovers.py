"""What killed processes leave: hidden files and folders that were being written.

Their names say who writes: `.NAME.partial-MACHINE-PID-STARTED-TOKEN`.  A writer is dead where, on
its machine, no process has its id, or one that started at another time (ids are given again).
Elsewhere, and of earlier versions that wrote `.NAME.partial-TOKEN`, age tells.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import secrets
import shutil
import socket
import time

import psutil

PARTIAL = ".partial-"  # in the hidden name of what is being written
_NAME = re.compile(
  rf"\..*{re.escape(PARTIAL)}"
  r"(?:(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<started>\d{1,12})-)?[0-9a-f]{16}"
)
_SAME_START_S = 2  # start times of one process, told twice, differ by less
_OLD_S = 86400.0  # nobody writes one file for so long

Path = str | os.PathLike[str]


def mark() -> str:
  """Returns the end of a hidden name: who writes it, and a token of its own."""
  return f"{_machine()}-{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(8)}"


def clear(*folders: Path, deep: bool = False) -> None:
  """Removes what dead processes left unfinished in folders, which need not be there.

  Args:
    folders: on a disk.
    deep: whether the folders below them are looked through, too.
  """
  for folder in folders:
    for root, inside, names in os.walk(folder):
      for name in filter(_NAME.fullmatch, [*inside, *names]):
        _remove(pathlib.Path(root, name))
      inside[:] = [name for name in inside if deep and not _NAME.fullmatch(name)]


@functools.lru_cache(maxsize=4096)
def clear_once(folder: str) -> None:
  """As `clear`, once in a process."""
  clear(folder)


def _remove(path: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # another start was faster, or may not
    if _is_left(path):
      shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_left(path: pathlib.Path) -> bool:
  found = _NAME.fullmatch(path.name)
  if found["machine"] == _machine():
    return not _lives(int(found["pid"]), int(found["started"]))
  is_old = time.time() - path.lstat().st_mtime > _OLD_S
  return is_old and (found["machine"] is not None or path.is_file())


def _lives(pid: int, started: int) -> bool:
  try:
    return (
      psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
      and abs(_started(pid) - started) <= _SAME_START_S
    )
  except psutil.NoSuchProcess:
    return False
  except psutil.AccessDenied:  # it is there
    return True


def _started(pid: int) -> int:
  """Seconds from the machine's start to the process's."""
  return max(0, round(psutil.Process(pid).create_time() - psutil.boot_time()))


@functools.cache
def _machine() -> str:
  """This start of this machine and its space of process ids: containers may share a folder."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Linux has both
    parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    parts.append(os.readlink("/proc/self/ns/pid"))
  return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]
