"""How the commands of this package end: with a status, and a message instead of a traceback."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import cv2

from semiseg_jax import errors


class Pattern(argparse.Action):
  """An option whose text must not be empty, as that of an unset variable of a shell is."""

  def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
    """Takes the text."""
    if not values:
      parser.error(f"{option_string} '': an empty pattern groups nothing; leave it out, or fill it")
    setattr(namespace, self.dest, values)


@contextlib.contextmanager
def ending() -> Iterator[None]:
  """Around the work of a command, in the main thread.

  What is wrong with data, weights, options or disk ends it as `errors.ending` says; any other
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
