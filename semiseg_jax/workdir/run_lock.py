"""One run per work directory: a lock file that names its holder, and that a dead holder loses.

WORKDIR/run.lock says host, process id, when that process and its machine started, and since when
the lock is held.  Its holder renews the file's time as long as it lives, also while XLA compiles.
Whether a holder is dead:

* on the same machine: no process has its id, or one that started at another time (ids are given
  again), or the machine itself was started again;
* elsewhere (another host or container that sees the same folder): the file was not renewed for
  `STALE_S`.  Times are those of the file system: clocks of hosts differ.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator

import jax
import psutil
from absl import logging

from semiseg_jax import files
from semiseg_jax.errors import ConfigError

LOCK = "run.lock"
BEAT_S, STALE_S = 5.0, 60.0  # between two renewals; without any for so long a holder is dead
_LOOK_S = 1.0  # between two looks at whether another host's lock is renewed
_SAME_START_S = 2.0  # start times of one process, told twice, differ by less
_NO_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
_held: dict[pathlib.Path, "_Held"] = {}  # of this process


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who holds a lock.

  Attributes:
    host: its name.
    machine: tells this start of this machine, and its space of process ids, from others.
    pid: of the process.
    started: seconds from the machine's start to the process's.
    since: when the lock was taken, UTC.
    token: of this lock alone.
  """

  host: str
  machine: str
  pid: int
  started: float
  since: str
  token: str

  @classmethod
  def here(cls) -> "Holder":
    """This process, now."""
    started = psutil.Process().create_time() - psutil.boot_time()
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    token = secrets.token_hex(8)
    return cls(socket.gethostname(), _machine(), os.getpid(), started, since, token)


def _machine() -> str:
  """Containers of one machine may see the folder of another under the same process id."""
  parts = []
  with contextlib.suppress(OSError):  # Linux has both
    parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
  return " ".join(parts) or socket.gethostname()


class _Held:
  """A lock that this process holds, and the thread that renews it."""

  def __init__(self, file: pathlib.Path, holder: Holder):
    self.file, self.holder, self.owner = file, holder, threading.get_ident()
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._renew, name="run lock", daemon=True)
    self._thread.start()

  def _renew(self) -> None:
    while not self._end.wait(BEAT_S):
      with contextlib.suppress(OSError):  # a disk that is gone is told by what is written there
        if self.is_ours():
          os.utime(self.file)

  def is_ours(self) -> bool:
    found = _read(self.file)
    return found is not None and found.token == self.holder.token

  def release(self) -> None:
    self._end.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if self.is_ours():
        self.file.unlink()


@contextlib.contextmanager
def held(workdir: str | os.PathLike[str]) -> Iterator[None]:
  """Holds the lock of `workdir` while the block lasts; inside of itself it does nothing.

  Of several processes of one run the first one holds it.  A folder that cannot be written to is not
  locked: nobody trains there.

  Args:
    workdir: made when it is not there, and removed again where it stays empty.

  Raises:
    ConfigError: another run holds it; the message says which, since when, and what to do.
    OSError: the disk is full, or broken.
  """
  folder = pathlib.Path(workdir).absolute()
  ours = _held.get(folder)
  if jax.process_index() or (ours and ours.owner == threading.get_ident()):
    yield
    return
  made = not folder.exists()
  lock = _taken(folder)
  if lock is None:
    yield
    return
  _held[folder] = lock
  try:
    yield
  finally:
    del _held[folder]
    lock.release()
    if made:
      with contextlib.suppress(OSError):
        folder.rmdir()


def check() -> None:
  """Raises ConfigError where a lock of this process was taken over: it stood still for too long."""
  for folder, lock in _held.items():
    if not lock.is_ours():
      found = _read(lock.file)
      by = f"by {_name(found)}" if found else f"or {lock.file} was removed"
      raise ConfigError(
        f"{folder} was taken over {by}, while this process stood still. This run stops here and "
        "leaves the folder alone: its checkpoints before this step are whole."
      )


def living(workdir: str | os.PathLike[str]) -> str | None:
  """Returns which other process of this machine trains in `workdir`; None where none does."""
  found = _read(pathlib.Path(workdir) / LOCK)
  if found is None or found.machine != _machine() or found.pid == os.getpid():
    return None
  return _name(found) if _lives(found) else None


def _taken(folder: pathlib.Path) -> _Held | None:
  """The lock of `folder`; None where nothing can be written there, which is told before a save."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    return _take(folder / LOCK)
  except OSError as error:
    if error.errno not in _NO_FOLDER:
      raise
    return None


def _take(file: pathlib.Path) -> _Held:
  own = Holder.here()
  while True:
    try:
      _create(file, own)
      return _Held(file, own)
    except FileExistsError:
      found = _dead(file)
    with _alone(file):
      if os.path.lexists(file) and _read(file) == found:  # nobody else took it over meanwhile
        file.unlink()
        if found is not None:
          logging.warning("Took over the lock of %s, which is gone.", _name(found))


def _create(file: pathlib.Path, own: Holder) -> None:
  """Makes the lock file, whole; FileExistsError where there is one."""
  partial = files.partial(file)
  try:
    partial.write_text(json.dumps(dataclasses.asdict(own)) + "\n")
    try:
      os.link(partial, file)
    except FileExistsError:
      raise
    except OSError:  # a file system without links
      with open(file, "x") as unfinished:
        unfinished.write(partial.read_text())
  finally:
    partial.unlink(missing_ok=True)


def _read(file: pathlib.Path) -> Holder | None:
  """Who holds the lock; None where there is no such file, or no sense in it."""
  try:
    return Holder(**_typed(json.loads(file.read_text())))
  except (OSError, ValueError, TypeError, KeyError, RecursionError):
    return None


def _typed(fields: dict) -> dict:
  """Raises TypeError or KeyError where a field is absent or of another type."""
  number = (int, float)
  types = {"host": str, "machine": str, "pid": int, "started": number, "since": str, "token": str}
  for name, kind in types.items():
    if not isinstance(fields[name], kind):
      raise TypeError(name)
  return fields


def _dead(file: pathlib.Path) -> Holder | None:
  """Returns the holder of a lock when it is dead; None where its file makes no sense, or is gone.

  Raises:
    ConfigError: it lives.
  """
  if not (file.is_file() or file.is_symlink()) and file.exists():
    raise ConfigError(f"{file} is no file, and a run has its lock there: remove it.")
  found = _read(file)
  here = found is not None and found.machine == _machine()
  if _lives(found) if here else _renewed(file, found):
    raise ConfigError(_refusal(file, found))
  return found


def _lives(holder: Holder) -> bool:
  try:
    process = psutil.Process(holder.pid)
    if process.status() == psutil.STATUS_ZOMBIE:
      return False
    started = process.create_time() - psutil.boot_time()
  except psutil.NoSuchProcess:
    return False
  except psutil.AccessDenied:  # it is there
    return True
  return abs(started - holder.started) < _SAME_START_S


def _renewed(file: pathlib.Path, holder: Holder | None) -> bool:
  """Whether a lock is renewed that another machine holds, or whose file makes no sense."""
  try:
    first = _modified(file)
    rest = STALE_S - (_now(file) - first)
    if rest > 0:
      who = _name(holder) if holder else "an unknown process"
      logging.warning("%s is of %s: waiting up to %.0f s for a sign of life.", file, who, rest)
    end = time.monotonic() + rest
    while time.monotonic() < end:
      time.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))
      if _modified(file) != first:
        return True
  except FileNotFoundError:  # it was released
    return False
  return False


def _modified(file: pathlib.Path) -> float:
  with open(file, "rb") as opened:  # which makes a network's file system ask its server
    return os.fstat(opened.fileno()).st_mtime


def _now(file: pathlib.Path) -> float:
  """The time by the clock of the file system."""
  probe = files.partial(file)
  probe.touch()
  try:
    return probe.stat().st_mtime
  finally:
    probe.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(file: pathlib.Path) -> Iterator[None]:
  """One process at a time, where the file system has locks of its own."""
  with contextlib.ExitStack() as stack:
    guard = file.with_name(f".{file.name}.taking")
    with contextlib.suppress(OSError, NotImplementedError):
      stack.enter_context(files.locked(guard, lambda: None))
    yield


def _name(holder: Holder) -> str:
  return f"process {holder.pid} on {holder.host}, since {holder.since}"


def _refusal(file: pathlib.Path, holder: Holder | None) -> str:
  if holder is None:
    return f"{file.parent} is being trained: {file} is renewed, though it cannot be read."
  where = "" if holder.host == socket.gethostname() else f" on {holder.host}"
  return (
    f"{file.parent} is being trained by {_name(holder)}. It is left alone: wait for its end, stop "
    f"it (kill {holder.pid}{where}), or give another --workdir."
  )
