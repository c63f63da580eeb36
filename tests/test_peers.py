"""A process of a run that is gone is one line of those left."""

import pathlib
import socket
import subprocess
import sys

import jax
import pytest

from semiseg_jax import peers

REPOSITORY = pathlib.Path(__file__).parents[1]
DUMP = (
  "E1129 10:29:28.83 19251 coordination_service_agent.cc:289] Polled an error from coordination\n"
  "INTERNAL: Barrier failed because: task is set to ERROR: UNAVAILABLE: Task 1 heartbeat timeout.\n"
)
FATAL = (
  "F1129 10:29:28.83 19251 client.h:80] Terminating process because the JAX distributed service "
  "detected fatal errors. This most likely indicates that another task died\n"
  "*** Check failure stack trace: ***\n    @     0x7f5efd620634  absl::SendToLog()\n"
  "Fatal Python error: Aborted\n"
)


def _passed_on(text):
  return subprocess.run(
    [sys.executable, "-I", "-S", peers.__file__, "main"],
    input=text,
    capture_output=True,
    text=True,
    timeout=30,
  ).stderr


def test_a_dump_becomes_one_line_and_what_stood_before_stays():
  said = _passed_on("NOTE a\ntrain 3/9\n" + DUMP + FATAL).splitlines()
  assert said[:2] == ["NOTE a", "train 3/9"] and len(said) == 3
  assert said[2].startswith("main: another process of this run is gone (process 1)")
  assert "start the same command again" in said[2]


def test_what_is_no_fatal_dump_is_passed_on_whole():
  for text in ("NOTE a\n\nb\n", DUMP, "E1129 coordination\nTraceback\n", "no newline"):
    assert _passed_on(text).rstrip("\n") == text.rstrip("\n")


def _error(text, cause=None):
  error = RuntimeError(text)
  error.__cause__ = cause
  return error


@pytest.mark.parametrize(
  "error, gone",
  [
    (ValueError("UNKNOWN: Gloo AllGather failed: [pair.cc:547] Connection closed by peer"), True),
    (_error("a checkpoint", _error("Barrier timed out. Id: save")), True),
    (_error("INTERNAL: Task 1 heartbeat timeout"), True),
    (_error("a shape"), False),
    (SystemExit("main: no list 'val'"), False),
  ],
)
def test_errors_that_say_that_a_peer_is_gone(monkeypatch, error, gone):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  assert peers.is_gone(error) is gone
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
  assert not peers.is_gone(error)


@pytest.mark.parametrize(
  "error, said",
  [
    (SystemExit("main: no list"), "main: no list\n"),
    (_error("Gloo AllReduce failed"), "main: another process of this run is gone: "),
    (_error("a bug"), "Traceback"),
  ],
)
def test_one_of_several_processes_ends_at_once(monkeypatch, capsys, error, said):
  left = []
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  monkeypatch.setattr(peers, "_leave", left.append)
  with peers.leaving("main"):
    raise error
  assert left == [1] and capsys.readouterr().err.startswith(said)


def test_one_process_alone_and_a_good_end_are_left_as_they_are(monkeypatch):
  monkeypatch.setattr(peers, "_leave", pytest.fail)
  with pytest.raises(SystemExit, match="a line"), peers.leaving("main"):
    raise SystemExit("a line")
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  with pytest.raises(SystemExit), peers.leaving("main"):
    raise SystemExit(0)


@pytest.mark.slow
def test_the_end_of_process_0_is_one_line_of_the_other():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  code = (
    "import os, sys, time\n"
    "from semiseg_jax import peers\n"
    "import jax\n"
    "peers.watch_stderr('main')\n"
    "jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))\n"
    "time.sleep(1)\n"
    "os._exit(1) if sys.argv[2] == '0' else time.sleep(60)\n"
  )
  start = lambda i: subprocess.Popen(
    [sys.executable, "-c", code, address, str(i)], stderr=subprocess.PIPE, cwd=REPOSITORY, text=True
  )
  pair = [start(0), start(1)]
  (_, first), (_, second) = (process.communicate(timeout=60) for process in pair)
  assert first == "" and len(second.strip().splitlines()) == 1, second
  assert second.startswith("main: another process of this run is gone")
