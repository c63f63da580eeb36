"""How a command ends: one line, the last one, that blames what is at fault."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

from semiseg_jax import errors
from semiseg_jax.errors import UserError, ending

REPOSITORY = pathlib.Path(__file__).parents[1]


def _ended(error, place=None):
  with pytest.raises(SystemExit) as ended, ending("main", place):
    raise error
  return ended.value.code


def _full():
  return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_where_it_is_the_one(tmp_path, monkeypatch):
  assert _ended(_full(), str(tmp_path)).startswith("main: No space left")  # /dev/shm, for example
  monkeypatch.setattr(errors, "_LITTLE", 2**80)
  found = _ended(_full(), str(tmp_path / "not" / "there"))
  assert (
    found.startswith(f"main: {tmp_path}/not/there: No space left") and "free some space" in found
  )


@pytest.mark.parametrize(
  "number, said",
  [
    (errno.EFBIG, "ulimit -f"),
    (errno.EMFILE, "ulimit -n"),
    (errno.ENOTDIR, "correct the path"),
    (errno.ENAMETOOLONG, "correct the path"),
    (errno.ENOMEM, "free some memory"),
    (errno.ESTALE, "the connection to it"),
    (errno.EROFS, "permissions"),
  ],
)
def test_the_disk_is_blamed_only_where_it_is_at_fault(number, said):
  found = _ended(OSError(number, os.strerror(number), "x.npz"))
  assert found.startswith(f"main: x.npz: {os.strerror(number)}; ") and said in found
  assert said in ("permissions", "the connection to it") or "disk" not in found.replace(
    "or choose another disk", ""
  )


_COMMAND = """
import atexit, os, sys
from semiseg_jax.errors import DataError, ending
atexit.register(lambda: os.write(2, b"noise of a library\\n"))
with ending("main"):
  print("x" * {size})
  {}
"""


def _command(body, stdout, size=9):
  return subprocess.run(
    [sys.executable, "-c", _COMMAND.format(body, size=size)],
    cwd=REPOSITORY,
    env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_the_message_is_the_last_line():
  ended = _command("raise DataError('no list')", subprocess.DEVNULL)
  assert ended.returncode == 1 and ended.stderr == "main: no list\n"
  assert "noise" in _command("pass", subprocess.DEVNULL).stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
@pytest.mark.parametrize("body", ["pass", "raise DataError('no list')"])
def test_an_output_that_is_full_is_one_line(body):
  with open("/dev/full", "w") as full:
    ended = _command(body, full)
  said = "no list" if "raise" in body else "standard output: No space left on device"
  assert ended.returncode == 1 and ended.stderr.splitlines()[0].startswith(f"main: {said}")
  assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("size", [9, 99_999])
def test_a_reader_that_is_gone_ends_it_without_words(size):
  read, write = os.pipe()
  os.close(read)
  ended = _command("pass", write, size)
  os.close(write)
  assert ended.returncode == 141 and ended.stderr in ("", "noise of a library\n")


def test_a_broken_pipe_of_something_else_is_a_bug():
  with pytest.raises(BrokenPipeError), ending("main"):
    raise BrokenPipeError(errno.EPIPE, "a worker's")


def test_many_problems_are_cut():
  said = str(UserError.of_all("bad:", [f"p{i}" for i in range(30)]))
  assert said.splitlines()[-1] == "... and 10 more"
