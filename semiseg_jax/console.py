"""What libraries say on stderr is left out or given one form."""

import copy
import logging as std_logging
import os
import sys
import threading
import types
import warnings

from absl import logging

_NOISE = ("orbax", "grain", "etils", "tensorflow", "absl.app")  # below an error
_CLOSED = "Event loop is closed"
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
  std_logging.raiseExceptions = False  # a line that cannot be written is no traceback
  threading.excepthook = _end_of_thread
  sys.unraisablehook = _unraisable


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
  """What Python does with an error that it can raise nowhere, but for reads that were given up.

  TensorStore has one for each array that is still being read when another one is damaged.
  """
  given_up = isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == _CLOSED
  of_orbax = (
    isinstance(error.object, types.CoroutineType) and "orbax" in error.object.cr_code.co_filename
  )
  if not (given_up or of_orbax):
    sys.__unraisablehook__(error)


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
