"""What a user can mend: one base, and its kinds.

A command catches `UserError` (`ending`) and prints its message, which says what is wrong, where,
and how to mend it.  Whatever else is raised is a bug of this program and keeps its traceback.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence

_FULL = "free some space, or choose another folder"
_LOCKED = "mend its permissions, or choose another folder"
_MENDS = {
  errno.ENOSPC: _FULL,
  errno.EDQUOT: _FULL,
  errno.EFBIG: _FULL,
  errno.EACCES: _LOCKED,
  errno.EPERM: _LOCKED,
  errno.EROFS: _LOCKED,
  errno.ENOENT: "correct the path",
  errno.EIO: "check the disk",
}
SHOWN = 20  # problems that a message lists


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


@contextlib.contextmanager
def ending(command: str) -> Iterator[None]:
  """Around the work of a command: what the user can mend ends it with status 1 and `command: ...`.

  What the system says of a file that it names, or of a disk, is such an error; any other OSError
  is not.  Ctrl-C ends it with status 130 and no more words.
  """
  try:
    with _disk_errors():
      yield
  except UserError as error:
    raise SystemExit(f"{command}: {error}") from error
  except KeyboardInterrupt:
    raise SystemExit(130) from None


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if error.filename is None and error.errno not in _MENDS:
      raise
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    mend = _MENDS.get(error.errno, "check the file and its disk")
    raise DiskError(f"{where}{error.strerror}; {mend}.") from error
