"""What libraries say on stderr is left out or given one form."""

import copy
import logging as std_logging
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable

from absl import logging

_NOISE = ("orbax", "grain", "etils", "tensorflow", "absl.app")  # below an error
_MARKS = {std_logging.WARNING: "NOTE", std_logging.ERROR: "ERROR", std_logging.CRITICAL: "ERROR"}


def prepare() -> None:
  """To be called by a command; before jax is imported its C++ says errors alone, too."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  for name in _NOISE:
    warnings.filterwarnings("ignore", module=rf"{name}\b")
  logging.set_verbosity(logging.WARNING)
  handler = logging.get_absl_handler()
  handler.setFormatter(_Plain())
  if not any(isinstance(there, _News) for there in handler.filters):
    handler.addFilter(_News())
  threading.excepthook = _end_of_thread
  if not isinstance(sys.excepthook, _Hook):
    sys.excepthook = _Hook(sys.excepthook)


class _Hook:
  """What Python does with an error that nobody caught, but for those of reads that were given up.

  TensorStore prints one for each array that is still being read when another one is damaged.
  """

  def __init__(self, before: Callable[..., None]):
    self._before = before

  def __call__(
    self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
  ) -> None:
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
      self._before(kind, error, trace)


def _end_of_thread(ended: threading.ExceptHookArgs) -> None:
  """A thread of a library that a full disk ended is a line: what it wrote is told by who wrote it.

  Anything else is a bug and keeps its traceback.
  """
  if isinstance(ended.exc_value, OSError):
    logging.error("A thread ended: %s", ended.exc_value)
  else:
    threading.__excepthook__(ended)


class _Plain(std_logging.Formatter):
  """`NOTE text`, as our own lines are; without time, thread and file."""

  def format(self, record: std_logging.LogRecord) -> str:
    if record.exc_info and _is_noise(record):  # what it raises is told by who called it
      record = copy.copy(record)
      record.exc_info = record.exc_text = None
    return f"{_MARKS.get(record.levelno, record.levelname)} {super().format(record)}"


class _News(std_logging.Filter):
  """Passes what our modules say, and errors of everybody."""

  def filter(self, record: std_logging.LogRecord) -> bool:
    if record.name == "asyncio" and "never retrieved" in record.msg:  # told by who waits for it
      return False
    if record.levelno >= std_logging.ERROR:
      return True
    return not _is_noise(record)


def _is_noise(record: std_logging.LogRecord) -> bool:
  path = record.pathname.replace(os.sep, "/")
  return any(f"/{name}/" in path or record.name.startswith(name) for name in _NOISE)
