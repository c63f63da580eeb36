"""Files that are whole or absent, and locks between processes.

A file is written under a name of its own in the same folder, forced to the disk, and renamed.  Who
reads it sees the old content or the new one; a killed write leaves the old content, and a hidden
file that nothing reads, and that a later process removes when it writes there.
"""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import filelock

from semiseg_jax import leftovers

PARTIAL = leftovers.PARTIAL
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_SHOWN = 40  # letters of the file's own name in that: a name has at most 255 bytes

Path = str | os.PathLike[str]


@contextlib.contextmanager
def whole(path: Path) -> Iterator[pathlib.Path]:
  """Gives a path to write to, which becomes `path` when the block ends without an error.

    with files.whole("model.npz") as partial, open(partial, "wb") as file:
      np.savez(file, **arrays)

  Args:
    path: the file; its folder exists.

  Yields:
    A path in the same folder, of a file that is not there yet.

  Raises:
    OSError: the disk is full, or the folder cannot be written to; it names the file, and nothing is
      left there.
  """
  unfinished = partial(path)
  try:
    with naming(path):
      yield unfinished
      commit(unfinished, path)
  except BaseException:
    unfinished.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Around what writes `path`: an error of the disk names it, as the system does not of bytes."""
  try:
    yield
  except OSError as error:
    if error.errno in _OF_WRITING and error.filename is None:
      error.filename = os.fspath(path)
    raise


def write_text(path: Path, text: str) -> None:
  """Writes a file of UTF-8, whole or not at all; OSError as `whole`."""
  write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
  """Writes a file, whole or not at all; OSError as `whole`."""
  with whole(path) as unfinished:
    unfinished.write_bytes(data)


def partial(path: Path) -> pathlib.Path:
  """Returns a hidden name beside `path` that no other call, in any process, returns."""
  path = pathlib.Path(path)
  if not path.name:  # '', '.', '/'
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
  leftovers.clear_once(os.path.abspath(path.parent))
  return path.with_name(f".{path.name[:_SHOWN]}{PARTIAL}{leftovers.mark()}")


@contextlib.contextmanager
def hidden(path: Path) -> Iterator[pathlib.Path]:
  """Gives a folder for what is at hand only while the block lasts, under a hidden name by `path`.

  Raises:
    OSError: the place cannot be written to.
  """
  folder = partial(path)
  folder.mkdir(parents=True)
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def commit(unfinished: pathlib.Path, path: Path) -> None:
  """Forces `unfinished` to the disk and renames it to `path`, in the same folder."""
  flush(unfinished)
  unfinished.replace(path)
  flush(unfinished.parent)


def flush(path: Path) -> None:
  """Forces a file or folder to the disk: a rename must not survive a power cut that it does not."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  except OSError as error:
    if error.errno != errno.EINVAL:  # file systems that cannot flush a folder
      raise
  finally:
    os.close(handle)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
  """Holds the lock file `path` while the block lasts; a killed process loses it.

  Args:
    path: the lock file, made and removed here; its folder exists.
    waiting: is called once where another process holds the lock, before waiting for it.

  Raises:
    OSError: the folder cannot be written to, or its file system has no locks.
  """
  # Where no file can be made (/proc says "no such file") the library would try for ever.
  os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
  lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout:
    waiting()
    lock.acquire()
  try:
    yield
  finally:
    try:
      # Before the release: who waits sees that its file is gone, and takes the next one.
      pathlib.Path(path).unlink(missing_ok=True)
    finally:
      lock.release()
