"""Processes of a sweep: what they say at their end, and with whom they end."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from semiseg_jax.sweeping import processes
from semiseg_jax.sweeping.processes import Outcome, Task, reason
from semiseg_jax.workdir import run_lock


def test_the_reason_is_what_the_command_said_last():
  said = "main: 1st\nmain: Step 3 gave a loss\n  that is not finite\n\n"
  assert reason(said, 1) == "main: Step 3 gave a loss that is not finite"
  assert reason("Traceback\nValueError: x\n", 1) == "ValueError: x"
  assert reason("", 1) == "it said nothing"
  assert reason("main: x", -9) == "ended by SIGKILL, out of memory?"
  assert len(reason("main: " + "x" * 999, 1)) < 320


def test_a_log_is_added_to_and_only_the_new_part_is_read(tmp_path):
  log = tmp_path / "a.log"
  log.write_text("main: of an earlier start\n")
  task = Task("a", (sys.executable, "-c", "raise SystemExit('x')"), log, lambda: None)
  [(_, outcome)] = processes.run([task], 1, 60)
  assert outcome.fault == f"x ({log})" and log.read_text().startswith("main: of an")


def test_a_run_ends_with_the_process_that_started_it():
  command = processes.python("timeit", "-n1", "-r1", "import time; time.sleep(60)")
  child = subprocess.Popen(command, stdin=subprocess.PIPE)
  with pytest.raises(subprocess.TimeoutExpired):
    child.wait(0.3)
  child.stdin.close()  # as the system does, whatever ended that process
  assert child.wait(30) == -signal.SIGTERM


def test_what_still_trains_is_waited_for(tmp_path, monkeypatch, capsys):
  living = iter(["process 7 on here", "process 7 on here", None])
  monkeypatch.setattr(run_lock, "living", lambda workdir: next(living))
  monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
  task = Task(
    "a", ("no such program",), tmp_path / "log", iter([None, None, 0.5]).__next__, tmp_path
  )
  assert list(processes.run([task], 1, 60)) == [(task, Outcome(0.5))]
  out = capsys.readouterr().out
  assert out == f"a: process 7 on here still trains in {tmp_path}; waiting for its end\n"


def test_a_lock_of_another_process_is_seen(tmp_path):
  assert run_lock.living(tmp_path) is None
  with run_lock.held(tmp_path):
    own = json.loads((tmp_path / run_lock.LOCK).read_text())
    assert run_lock.living(tmp_path) is None  # it is ours
  for change, lives in (({"pid": 1}, False), ({"machine": "other"}, False)):
    (tmp_path / run_lock.LOCK).write_text(json.dumps(own | change))
    assert bool(run_lock.living(tmp_path)) == lives
  with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
    import psutil

    started = psutil.Process(other.pid).create_time() - psutil.boot_time()
    (tmp_path / run_lock.LOCK).write_text(json.dumps(own | {"pid": other.pid, "started": started}))
    assert f"process {other.pid} on" in run_lock.living(tmp_path)
    other.kill()


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_how_to_go_on(error, status, capsys):
  with pytest.raises(SystemExit) as end, processes.interruptible("sweep"):
    if error is KeyboardInterrupt:
      raise error
    signal.raise_signal(error)
  assert end.value.code == status
  assert capsys.readouterr().err == "sweep: interrupted; the same command goes on.\n"


def test_an_interrupt_asks_once_and_waits(tmp_path):
  code = (
    "import signal, sys, time, pathlib\n"
    f"p = pathlib.Path({str(tmp_path)!r})\n"
    "def end(*_): time.sleep(0.3); (p / 'saved').touch(); sys.exit(143)\n"
    "signal.signal(signal.SIGTERM, end); (p / 'ready').touch(); time.sleep(60)"
  )
  done = lambda: (_ for _ in ()).throw(KeyboardInterrupt) if (tmp_path / "ready").exists() else None
  quick = Task(
    "q", (sys.executable, "-c", "import time; time.sleep(0.5)"), tmp_path / "q.log", done
  )
  long = Task("l", (sys.executable, "-c", code), tmp_path / "l.log", lambda: None)
  with (
    pytest.raises(KeyboardInterrupt),
    contextlib.closing(processes.run([long, quick], 2, 60)) as r,
  ):
    list(r)
  assert (tmp_path / "saved").exists()
