"""What a user can mend: one base, and its kinds.

A command catches `UserError` (`ending`) and prints its message, which says what is wrong, where,
and how to mend it.  Whatever else is raised is a bug of this program and keeps its traceback.
"""

import atexit
import contextlib
import errno
import functools
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

_FULL = "free some space, or choose another folder"
_LOCKED = "mend its permissions, or choose another folder"
_PATH = "correct the path"
_LOST = "check the disk, or the connection to it"
_MENDS = {
  errno.ENOSPC: _FULL,
  errno.EDQUOT: _FULL,
  errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose another disk",
  errno.EACCES: _LOCKED,
  errno.EPERM: _LOCKED,
  errno.EROFS: _LOCKED,
  errno.ENOENT: _PATH,
  errno.EIO: _LOST,
  errno.ESTALE: _LOST,
}
_OF_PATHS = {  # these are of a file, so only where one is named
  **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG), _PATH),
  **dict.fromkeys((errno.ELOOP, errno.EINVAL, errno.ENXIO), _PATH),
  **dict.fromkeys((errno.ENODEV, errno.ETIMEDOUT), _LOST),
  **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
  **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "end the program that holds it"),
  errno.ENOMEM: "free some memory",
}
_depth = 0  # of `ending`s inside of each other
_LITTLE = 2**24  # bytes; a disk with more free is not the one that is full
SHOWN = 20  # problems that a message lists
USAGE = 2  # status of a command whose options or config cannot be used, as argparse has it


class UserError(Exception):
  """Base of everything that the person at the keyboard can mend."""

  @classmethod
  def of_all(cls, headline: str, problems: Sequence[str]) -> "UserError":
    """One error of many problems, of which the first `SHOWN` are listed, one a line."""
    lines = [headline, *problems[:SHOWN]]
    if len(problems) > SHOWN:
      lines.append(f"... and {len(problems) - SHOWN} more")
    return cls("\n".join(lines))


class ConfigError(UserError):
  """A config, or an option of a command, that cannot run."""


class DataError(UserError):
  """Pictures, labels, lists or shards that cannot be used."""


class OptionError(ConfigError, DataError):
  """An option of a command whose value does not fit the data that it is given with."""


class WeightsError(UserError):
  """A weight file that cannot be used: unreadable, of another network, or in want of a package."""


class CheckpointError(UserError):
  """A checkpoint that cannot be used or written."""


class DiskError(UserError):
  """A file or folder that cannot be read or written: a full disk, no permission, a wrong path."""


class NonFiniteError(UserError):
  """A loss, a gradient or the state is not finite; the last good checkpoint is kept."""


class EvaluationError(UserError):
  """A run is trained and saved, but its last evaluation failed."""


class Ended(SystemExit):
  """The end of a command by a line for the user; its status is `USAGE`, or 1."""

  def __init__(self, text: str, status: int = 1):
    super().__init__(text)
    self.status = status

  def say(self) -> None:
    """Prints the line, as Python does of status 1 alone."""
    if self.status != 1 and self.code != self.status:
      self.code = self.status
      with contextlib.suppress(OSError, ValueError):  # nobody reads
        print(self, file=sys.stderr, flush=True)


def refuse(text: str) -> NoReturn:
  """Ends a command whose options cannot be used with status `USAGE` and a line."""
  error = Ended(text, USAGE)
  error.say()
  raise error


@contextlib.contextmanager
def ending(command: str, place: str | None = None) -> Iterator[None]:
  """Around the work of a command: what the user can mend ends it with one message, `command: ...`.

  The status is `USAGE` where an option or a config cannot be used, otherwise 1.  What the system
  says of a file that it names, or of a disk, is such an error; any other OSError is not.  Ctrl-C
  ends it with status 130 and no more words, a reader of its output that is gone (`| head`) with
  141.

  Args:
    command: what begins the line.
    place: what it writes to, for errors of a disk that name no file.
  """
  with _saying():
    try:
      with _disk_errors(place):
        yield
        sys.stdout.flush()
    except UserError as error:
      _drop_lost_output()
      _be_last()
      status = USAGE if isinstance(error, ConfigError) else 1
      raise Ended(f"{command}: {error}", status) from error
    except BrokenPipeError:
      if not _drop_lost_output():
        raise
      raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:
      raise SystemExit(130) from None


@contextlib.contextmanager
def _saying() -> Iterator[None]:
  """The outermost one says how a command ended: inside, the line may be changed or be a row."""
  global _depth
  _depth += 1
  try:
    yield
  except Ended as error:
    if _depth == 1:
      error.say()
    raise
  finally:
    _depth -= 1


@functools.cache
def _be_last() -> None:
  """What is said at the exit of this process from now on, by libraries, is not shown."""
  atexit.register(_to_nowhere, 2)


def _to_nowhere(handle: int) -> None:
  with contextlib.suppress(OSError):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, handle)
    os.close(nowhere)


@contextlib.contextmanager
def _disk_errors(place: str | None) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if error.filename is None and error.errno not in _MENDS:
      raise
    raise DiskError(f"{_named(error, place)}{error.strerror}; {mend(error.errno)}.") from error


def mend(number: int | None) -> str:
  """Returns what to do about an error of the system, by its errno."""
  return _MENDS.get(number) or _OF_PATHS.get(number) or "check that file"


def _named(error: OSError, place: str | None) -> str:
  if isinstance(error.filename, str | bytes):
    return f"{os.fsdecode(error.filename)}: "
  if _lost_output():
    return "standard output: "
  if place is None or (error.errno == errno.ENOSPC and has_space(place)):
    return ""
  return f"{place}: "


def has_space(place: str | os.PathLike[str]) -> bool:
  """Whether the disk of a folder, or of the nearest one there is, is not the one that is full."""
  path = os.path.abspath(place)
  while not os.path.isdir(path) and path != os.path.dirname(path):
    path = os.path.dirname(path)
  try:
    about = os.statvfs(path)
  except (OSError, AttributeError):  # Windows has none
    return False
  return about.f_bavail * about.f_frsize > _LITTLE and (about.f_favail > 0 or not about.f_files)


def _lost_output() -> bool:
  """Whether what was printed can be written no more."""
  try:
    sys.stdout.flush()
    handle = sys.stdout.fileno()
  except ValueError:  # closed, or no file of the system
    return False
  except OSError:
    return True
  if not hasattr(select, "poll"):
    return False
  poll = select.poll()
  poll.register(handle, 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))  # nobody reads


def _drop_lost_output() -> bool:
  """The same; then nothing more is tried, which would be said below the last line."""
  if not _lost_output():
    return False
  with contextlib.suppress(OSError, ValueError):  # there may be no such handle
    _to_nowhere(sys.stdout.fileno())
  return True
