"""What is different where a work directory lies in an object store, and not on a disk.

  with store.opened("gs://bucket/run") as workdir:   # a folder of this machine; "runs/a" is itself
    ...
    store.push(workdir)

Every process has a folder of its own, for hosts share no disk; the first process alone brings what
is new to the store.  For a folder of a disk nothing here does anything.
"""

import concurrent.futures
import contextlib
import logging as std_logging
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

from absl import logging

from semiseg_jax.errors import ConfigError, UserError
from semiseg_jax.workdir import objects
from semiseg_jax.workdir.mirror import Mirror

_open: list[Mirror] = []
_POLL_S = 0.1

Path = str | os.PathLike[str]


def is_url(path: Path) -> bool:
  """Whether a path names an object store."""
  return bool(objects.scheme(path))


def refuse(path: Path, flag: str) -> None:
  """Raises ConfigError where a store is given for something that lies on a disk only."""
  if is_url(path):
    raise ConfigError(
      f"{flag}={path}: this is read and written on a disk only; give a folder (a bucket can be "
      "mounted: gcsfuse, mount-s3)."
    )


@contextlib.contextmanager
def opened(
  path: Path, *, reads: bool = True, writes: bool = True, owns: bool = False
) -> Iterator[str]:
  """Gives the folder to work in: `path` itself, or a mirror of a store, which is pushed at the end.

  Args:
    path: a folder, or gs://bucket/run, s3://bucket/run.
    reads: whether what is in the store is wanted.
    writes: whether what the block leaves is brought there.
    owns: whether this is the run that trains there, the only one; its first process says so.

  Raises:
    UserError, SystemExit: of the block, with the names of the store in its text.
    ConfigError, DiskError: as Objects.
  """
  if not is_url(path):
    yield os.fspath(path)
    return
  if owns and not _is_first():
    _meet()
  mirror = Mirror(os.fspath(path), reads=reads, trains=owns, owns=owns and _is_first())
  if owns and _is_first():
    _meet()
  _open.append(mirror)
  try:
    yield str(mirror.root)
    if writes:
      push(mirror.root)
  except BaseException as error:
    if writes:
      _push_what_there_is(mirror)
    if isinstance(error, UserError | SystemExit) and str(error) != named(error):
      again = type(error)(named(error))
      vars(again).update(vars(error))  # its status
      raise again from error
    raise
  finally:
    _open.remove(mirror)
    mirror.close()


def _meet() -> None:
  """The others list what is there when the first process has it for itself."""
  import jax

  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("store opened")


def _push_what_there_is(mirror: Mirror) -> None:
  """The rows and checkpoints of a run that ends with an error, which is what is to be told."""
  try:
    push(mirror.root)
  except UserError as error:
    logging.error("%s", error)


def of(path: Path) -> Mirror | None:
  """Returns the mirror that a path lies in, None for a path on a disk."""
  absolute = pathlib.Path(path).absolute()
  return next((mirror for mirror in _open if absolute.is_relative_to(mirror.root)), None)


def named(text: object) -> str:
  """Returns a text for people: with the URL of a store in place of its mirror."""
  found = str(text)
  for mirror in _open:
    found = found.replace(str(mirror.root), mirror.url)
  return found


def _name_stores(record: std_logging.LogRecord) -> bool:
  if _open:
    record.msg, record.args = named(record.getMessage()), ()
  return True


logging.get_absl_logger().addFilter(_name_stores)


def push(path: Path) -> None:
  """Brings what is new to the store; by the first process."""
  mirror = of(path)
  if mirror is not None and _is_first():
    mirror.push()


def fetch(path: Path) -> None:
  """Brings a folder, such as a checkpoint, from the store where it is not here yet."""
  mirror = of(path)
  if mirror is not None:
    mirror.fetch(pathlib.Path(path).absolute())


def _is_first() -> bool:
  """Before jax is there, no process has a number: then nothing is to be pushed either."""
  jax = sys.modules.get("jax")
  return jax is None or jax.process_index() == 0


class Pushes:
  """Pushes beside training, one at a time, each when its checkpoint is complete in the folder.

  Args:
    workdir: as `opened` gave it.
    wait: returns when the last checkpoint is complete; raises what writing it raised.
  """

  def __init__(self, workdir: Path, wait: Callable[[], None]):
    self._workdir, self._wait = pathlib.Path(workdir), wait
    self._active = of(workdir) is not None and _is_first()
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "push") if self._active else None
    self._running: concurrent.futures.Future[None] | None = None
    self._ended = False

  def begin(self, step: int) -> None:
    """Pushes once the checkpoint of `step` is complete; returns at once."""
    if self._active:
      self._running = self._pool.submit(self._push, self._workdir / "checkpoints" / str(step))

  def _push(self, checkpoint: pathlib.Path) -> None:
    while not checkpoint.is_dir():
      if self._ended:
        return
      time.sleep(_POLL_S)
    push(self._workdir)

  def finish(self) -> None:
    """Returns when the last push is done; raises what it raised."""
    if self._running is not None:
      self._wait()
      self._running.result()
      self._running = None

  def close(self) -> None:
    """Ends; what was not pushed yet is left to `opened`."""
    self._ended = True
    if self._pool is not None:
      self._pool.shutdown(wait=True)
