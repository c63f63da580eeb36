"""Ctrl-C is answered while the main thread is out of Python's hands."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import jax
import pytest

from semiseg_jax import signals
from semiseg_jax.methods.contract import Stage
from semiseg_jax.training import stages
from semiseg_jax.training.interrupt import Interrupt


def _sent(number):
  os.kill(os.getpid(), number)
  time.sleep(0.1)  # the thread's turn


def test_in_the_loop_the_first_asks_and_the_second_leaves(capfd):
  left = []
  with signals.answered(left.append) as watch:
    with Interrupt(lambda step: False) as interrupt:
      assert not interrupt.asked(1)
      _sent(signal.SIGINT)
      assert interrupt.asked(2) and not left
      assert "stopping after this step, then saving; again: at once" in capfd.readouterr().err
      _sent(signal.SIGINT)
      assert left == [130]
  assert watch.received == [signal.SIGINT] * 2


def test_sigterm_asks_in_the_loop_as_well():
  left = []
  with signals.answered(left.append) as watch, Interrupt(lambda step: False) as interrupt:
    _sent(signal.SIGTERM)
    assert interrupt.asked(1) and watch.received == [signal.SIGTERM] and not left


def test_outside_of_the_loop_it_ends_what_runs(capfd):
  left = []
  with signals.answered(left.append):
    _sent(signal.SIGINT)
  assert left == [130] and "stopped" in capfd.readouterr().err
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  assert signals.current() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_distributed_run_jax_is_told_and_decides(monkeypatch, number):
  """jax's handler of SIGTERM is left; all processes end as after what any of them had."""
  told, before = [], signal.getsignal(signal.SIGTERM)
  as_of_jax = types.SimpleNamespace(getpid=os.getpid, kill=lambda pid, n: told.append((pid, n)))
  monkeypatch.setattr("semiseg_jax.training.interrupt.os", as_of_jax)
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  with signals.answered() as watch, Interrupt(lambda step: step == 3) as interrupt:
    assert signal.getsignal(signal.SIGTERM) is before
    if number == signal.SIGINT:
      _sent(number)
      assert told == [(os.getpid(), signal.SIGTERM)]
    assert [interrupt.asked(step) for step in (1, 2, 3)] == [False, False, True]
  assert watch.received == [number]


@pytest.mark.parametrize("early", [True, False])
def test_between_stages_the_first_one_ends_the_run(tmp_path, early):
  """Also one that came while the stage ended; labels are not made first."""
  left, made = [], []

  def trained(config, workdir, last):
    with Interrupt(lambda step: False):
      if early:
        _sent(signal.SIGINT)
    return True

  def then(*args):
    made.append(args)
    _sent(signal.SIGINT)

  with signals.answered(left.append):
    stages.run([Stage("a", {}, then)], [None], [None], str(tmp_path), trained)
  assert (len(made), left) == ((0, []) if early else (1, [130]))


def test_another_thread_is_left_alone():
  seen = []

  def work():
    before = signal.getsignal(signal.SIGINT)
    with signals.answered(), Interrupt(lambda step: False) as interrupt:
      seen.append((signal.getsignal(signal.SIGINT) is before, interrupt.asked(1)))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [(True, False)]


_BLOCKED = """
import ctypes, sys
from semiseg_jax import signals
with signals.answered() as watch:
  watch.gentle = True
  print("ready", flush=True)
  # As XLA does when it compiles: no bytecode of the main thread runs, and a signal ends no call.
  block = ctypes.CDLL(None).pthread_mutex_lock
  mutex = ctypes.create_string_buffer(64)
  block(mutex)
  block(mutex)
"""


@pytest.mark.slow
def test_the_second_one_leaves_a_call_that_does_not_return():
  process = subprocess.Popen(
    [sys.executable, "-c", _BLOCKED],
    cwd=pathlib.Path(__file__).parents[1],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    while "stopping after this step" not in process.stderr.readline():
      pass
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert time.monotonic() - began < 1
  finally:
    process.kill()
    process.communicate()
