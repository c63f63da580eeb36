"""What libraries say on stderr is left out or given one form."""

import logging as std_logging
import os

from absl import logging

_NOISE = ("orbax", "grain", "etils", "tensorflow", "absl.app")  # below an error
_MARKS = {std_logging.WARNING: "NOTE", std_logging.ERROR: "ERROR", std_logging.CRITICAL: "ERROR"}


def prepare() -> None:
  """To be called before jax is imported: its C++ says errors alone."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  logging.set_verbosity(logging.WARNING)
  handler = logging.get_absl_handler()
  handler.setFormatter(_Plain())
  if not any(isinstance(there, _News) for there in handler.filters):
    handler.addFilter(_News())


class _Plain(std_logging.Formatter):
  """`NOTE text`, as our own lines are; without time, thread and file."""

  def format(self, record: std_logging.LogRecord) -> str:
    return f"{_MARKS.get(record.levelno, record.levelname)} {super().format(record)}"


class _News(std_logging.Filter):
  """Passes what our modules say, and errors of everybody."""

  def filter(self, record: std_logging.LogRecord) -> bool:
    if record.levelno >= std_logging.ERROR:
      return True
    path = record.pathname.replace(os.sep, "/")
    return not any(f"/{name}/" in path or record.name.startswith(name) for name in _NOISE)
