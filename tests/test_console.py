"""What reaches stderr of what libraries say."""

import logging
import warnings

import pytest
from absl import logging as absl_logging

from semiseg_jax import console


@pytest.fixture(autouse=True)
def _handler():
  handler = absl_logging.get_absl_handler()
  before = handler.python_handler.formatter, list(handler.filters)
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
