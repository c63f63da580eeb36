"""Damage in JPEG files that decoders pass over, filling gray or smeared pixels in.

libjpeg, through which OpenCV reads them, only prints a line to the process's stderr, the first one
of a file.  So that is where one has to look.
"""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

import cv2
import numpy as np

from semiseg_jax.data import jpeg_scans
from semiseg_jax.errors import DataError

_STDERR = 2
_ONE_AT_A_TIME = threading.Lock()
# What libjpeg's messages of lost or doubtful pixels begin with; source: jerror.h.
_DAMAGE = re.compile(
  r"(Corrupt JPEG data|Premature end of JPEG|Inconsistent progression sequence|"
  r"Corrupt(ed)? .*JPEG).*",
  re.IGNORECASE,
)
# A few bytes too many behind the last pixel, which some cameras write.
_PADDING = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes before marker 0xd9")


def check(data: bytes, where: str) -> None:
  """DataError where a JPEG is damaged; it is decoded at an eighth of its size."""
  with refused(where):
    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
  jpeg_scans.check(data, where)


@contextlib.contextmanager
def refused(where: str) -> Iterator[None]:
  """Around decoding by OpenCV: DataError where the file `where` turned out to be damaged.

  What others print to stderr in the meantime comes a little later.
  """
  with _ONE_AT_A_TIME, tempfile.TemporaryFile() as kept:
    try:
      stderr = os.dup(_STDERR)
    except OSError:  # the process has none, and there is nothing to read
      yield
      return
    os.dup2(kept.fileno(), _STDERR)
    try:
      yield
    finally:
      os.dup2(stderr, _STDERR)
      os.close(stderr)
      kept.seek(0)
      lines = kept.read().decode(errors="replace").splitlines(keepends=True)
      damage = [line for line in lines if _DAMAGE.match(line)]
      others = "".join(line for line in lines if line not in damage)
      if others:
        os.write(_STDERR, others.encode())
  damage = [line.strip() for line in damage if not _PADDING.match(line)]
  if damage:
    raise DataError(
      f"{where}: the JPEG is damaged ({damage[0]}), some of its pixels are made up; get it again, "
      "or leave it out"
    )
