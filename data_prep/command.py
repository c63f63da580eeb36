"""How the commands of this package end: with a status, and a message instead of a traceback."""

import contextlib
import signal
import sys
from collections.abc import Iterator

import cv2

from semiseg_jax import errors


@contextlib.contextmanager
def ending() -> Iterator[None]:
  """Around the work of a command, in the main thread.

  What is wrong with data, weights, options or disk ends it with status 1 and the message; any other
  error is a bug and keeps its traceback. An interrupt (Ctrl-C) or a request to end (SIGTERM, as
  schedulers send it) lets what was written be tidied up, and ends it with status 130.
  """
  cv2.setNumThreads(1)
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    with errors.ending("error"):
      yield
  except KeyboardInterrupt:
    sys.exit(130)
  finally:
    signal.signal(signal.SIGTERM, before)
