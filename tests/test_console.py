"""What reaches stderr of what libraries say."""

import errno
import logging
import sys
import threading
import types
import warnings

import pytest
from absl import logging as absl_logging

from semiseg_jax import console


@pytest.fixture(autouse=True)
def _handler(monkeypatch):
  handler = absl_logging.get_absl_handler()
  before = handler.python_handler.formatter, list(handler.filters)
  monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # as they are, afterwards
  monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
  monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
  with warnings.catch_warnings():
    console.prepare()
    yield
  handler.setFormatter(before[0])
  handler.filters = before[1]


def _record(path, level, name="absl"):
  return logging.LogRecord(name, level, path, 1, "step %d", (3,), None)


@pytest.mark.parametrize(
  "path, level, said",
  [
    ("/x/semiseg_jax/training/validation.py", logging.WARNING, "NOTE step 3"),
    ("/x/site-packages/orbax/checkpoint/manager.py", logging.WARNING, None),
    ("/x/site-packages/orbax/checkpoint/manager.py", logging.ERROR, "ERROR step 3"),
    ("/x/site-packages/jax/_src/xla_bridge.py", logging.WARNING, "NOTE step 3"),
  ],
)
def test_our_lines_and_errors_have_one_form_and_the_rest_is_left_out(path, level, said):
  handler, record = absl_logging.get_absl_handler(), _record(path, level)
  passed = all(there.filter(record) for there in handler.filters)
  assert (handler.format(record) if passed else None) == said


def test_a_traceback_is_kept():
  try:
    raise ValueError("a bug")
  except ValueError as error:
    record = _record("/x/semiseg_jax/train.py", logging.ERROR)
    record.exc_info = (type(error), error, error.__traceback__)
  assert "ValueError: a bug" in absl_logging.get_absl_handler().format(record)


def test_a_traceback_of_a_library_is_left_to_who_called_it():
  record = _record("/x/site-packages/orbax/checkpoint/future.py", logging.ERROR)
  record.exc_info = (ValueError, ValueError("No space left"), None)
  assert absl_logging.get_absl_handler().format(record) == "ERROR step 3"
  assert record.exc_info, "other handlers still have it"


def test_tasks_that_nobody_waits_for_say_nothing():
  handler = absl_logging.get_absl_handler()
  record = logging.LogRecord(
    "asyncio", logging.ERROR, "/x/asyncio/base_events.py", 1, "Task exception was never retrieved",
    (), None,
  )  # fmt: skip
  assert not all(there.filter(record) for there in handler.filters)


def _ended(error):
  """What is said of a thread that raised."""
  thread = threading.Thread(target=_raise, args=(error,))
  thread.start()
  thread.join()


def _raise(error):
  raise error


def test_a_thread_that_a_full_disk_ended_is_a_line_and_a_bug_is_not(capsys, caplog):
  _ended(OSError(errno.ENOSPC, "No space left on device"))
  assert "A thread ended: [Errno 28] No space left on device" in caplog.text
  assert "Traceback" not in capsys.readouterr().err + caplog.text
  _ended(ZeroDivisionError("ours"))
  assert "Traceback" in capsys.readouterr().err


def test_reads_that_were_given_up_say_nothing_and_the_rest_does(capsys):
  unraisable = lambda error: types.SimpleNamespace(
    exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=None
  )
  sys.unraisablehook(unraisable(RuntimeError("Event loop is closed")))
  assert capsys.readouterr().err == ""
  with pytest.MonkeyPatch.context() as patch:
    said = []
    patch.setattr(sys, "__unraisablehook__", said.append)
    sys.unraisablehook(unraisable(RuntimeError("ours")))
  assert len(said) == 1
