"""Zip files as this program writes them, unpacked; whatever damage they have is one error.

A flipped bit may name another method of packing, a password, or a place outside of the file: of
each of these the module zipfile raises something of its own.
"""

import contextlib
import errno
import os
import struct
import zipfile
from collections.abc import Iterator

# Of the file, and of what is read from it; ValueError is Unicode's and JSON's, too.
_DAMAGE = (zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, EOFError)
_DAMAGE += (RuntimeError, ArithmeticError, struct.error, SyntaxError)
_OF_PLACES = (None, errno.EINVAL)  # of an OSError that no disk raises


class DamagedZipError(ValueError):
  """The file is not as it was written."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
  """Opens a file whose members are stored as they are.

  Raises:
    DamagedZipError: it is damaged, also where what the block reads from it is.
    OSError: it cannot be read.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      size = os.stat(path).st_size
      for info in archive.infolist():
        _check(info, size)
      yield archive
  except _DAMAGE as error:
    raise DamagedZipError(str(error) or type(error).__name__) from error
  except OSError as error:
    if error.errno not in _OF_PLACES:
      raise
    raise DamagedZipError(str(error)) from error


def _check(info: zipfile.ZipInfo, size: int) -> None:
  if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
    raise zipfile.BadZipFile(f"{info.filename!r} is packed otherwise than it was written")
  inside = 0 <= info.header_offset <= info.header_offset + info.compress_size <= size
  if not inside or info.compress_size != info.file_size:
    raise zipfile.BadZipFile(f"{info.filename!r} is not inside of the file")
