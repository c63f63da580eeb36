"""Writes that are whole or nothing, and locks; processes die where it matters."""

import errno
import multiprocessing
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from semiseg_jax import files

_KILLED = """
import os, pathlib, sys
from semiseg_jax import files
pathlib.Path.replace = lambda *args: os._exit(9)
files.write_text(sys.argv[1], "new" * 1000)
"""


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_replace_what_was_there(tmp_path):
  files.write_text(tmp_path / "a.txt", "früher")
  files.write_text(tmp_path / "a.txt", "später")
  files.write_bytes(str(tmp_path / "b"), b"\0\xff")
  assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "später"
  assert (tmp_path / "b").read_bytes() == b"\0\xff"
  assert _names(tmp_path) == ["a.txt", "b"]


def test_a_kill_between_write_and_rename_leaves_the_old_content(tmp_path):
  path = tmp_path / "a.txt"
  files.write_text(path, "old")
  killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
  assert killed.returncode == 9
  assert path.read_text() == "old" and len(_names(tmp_path)) == 2
  files.write_text(path, "next")  # not disturbed by what was left
  assert path.read_text() == "next"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_leaves_nothing(tmp_path, error):
  files.write_text(tmp_path / "a", "old")
  with pytest.raises(error), files.whole(tmp_path / "a") as unfinished:
    unfinished.write_text("half")
    raise error
  assert _names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
  "said, named", [(errno.ENOSPC, "a"), (errno.EIO, "a"), (errno.EPIPE, None)]
)
def test_an_error_of_the_disk_names_the_file(tmp_path, said, named):
  with pytest.raises(OSError) as error, files.whole(tmp_path / "a"):
    raise OSError(said, "what the system says of bytes that do not fit")
  assert error.value.filename == (named and str(tmp_path / named))


def test_a_full_disk_at_the_flush_leaves_nothing(tmp_path, monkeypatch):
  def full(handle):
    raise OSError(errno.ENOSPC, "no space")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="no space"):
    files.write_text(tmp_path / "a", "new")
  assert _names(tmp_path) == []


def test_file_and_folder_are_forced_to_the_disk_around_the_rename(tmp_path, monkeypatch):
  done, fsync, replace = [], os.fsync, pathlib.Path.replace

  def flush(handle):
    done.append("folder" if os.path.samestat(os.fstat(handle), os.stat(tmp_path)) else "file")
    fsync(handle)

  def rename(self, target):
    done.append("rename")
    return replace(self, target)

  monkeypatch.setattr(os, "fsync", flush)
  monkeypatch.setattr(pathlib.Path, "replace", rename)
  files.write_text(tmp_path / "a", "new")
  assert done == ["file", "rename", "folder"]


def test_file_systems_that_cannot_flush_a_folder_are_used(tmp_path, monkeypatch):
  def refuse(handle):
    raise OSError(errno.EINVAL, "a folder")

  monkeypatch.setattr(os, "fsync", refuse)
  files.write_text(tmp_path / "a", "new")
  assert _names(tmp_path) == ["a"]


def test_the_longest_name_can_be_written(tmp_path):
  name = "ü" * 127  # 254 bytes
  files.write_text(tmp_path / name, "new")
  assert _names(tmp_path) == [name]


def _write_often(path, letter):
  for _ in range(30):
    files.write_text(path, letter * 200_000)


def test_processes_that_write_at_once_leave_one_whole_file(tmp_path):
  path, context = tmp_path / "a", multiprocessing.get_context("spawn")
  files.write_text(path, "a" * 200_000)
  writers = [context.Process(target=_write_often, args=(path, letter)) for letter in "ab"]
  for writer in writers:
    writer.start()
  seen = set()
  while any(writer.is_alive() for writer in writers):
    text = path.read_text()
    assert text in ("a" * 200_000, "b" * 200_000)
    seen.add(text[0])
  assert [writer.exitcode for writer in writers] == [0, 0] and "b" in seen
  assert _names(tmp_path) == ["a"]


def _no_waiting():
  pytest.fail("there is nobody to wait for")


def test_who_comes_second_says_so_and_waits(tmp_path):
  lock, order = tmp_path / ".lock", []

  def second():
    with files.locked(lock, lambda: order.append("waits")):
      order.append("second")

  thread = threading.Thread(target=second)
  with files.locked(lock, _no_waiting):
    thread.start()
    while not order:
      time.sleep(0.01)
    time.sleep(0.2)
    order.append("first")
  thread.join()
  assert order == ["waits", "first", "second"] and _names(tmp_path) == []


def _count(path, lock):
  for _ in range(20):
    with files.locked(lock, lambda: None):
      number = int(path.read_text())
      time.sleep(0.001)
      path.write_text(str(number + 1))


def test_never_two_at_once_though_the_lock_file_comes_and_goes(tmp_path):
  path, context = tmp_path / "number", multiprocessing.get_context("spawn")
  path.write_text("0")
  counters = [context.Process(target=_count, args=(path, tmp_path / ".lock")) for _ in range(3)]
  for counter in counters:
    counter.start()
  for counter in counters:
    counter.join()
  assert path.read_text() == "60" and _names(tmp_path) == ["number"]


_DIES_WITH_LOCK = """
import os, sys
from semiseg_jax import files
with files.locked(sys.argv[1], lambda: None):
  os._exit(9)
"""


def test_a_killed_process_loses_the_lock(tmp_path):
  subprocess.run([sys.executable, "-c", _DIES_WITH_LOCK, str(tmp_path / ".lock")], check=False)
  assert _names(tmp_path) == [".lock"]
  with files.locked(tmp_path / ".lock", _no_waiting):
    pass
  assert _names(tmp_path) == []


@pytest.mark.parametrize("folder", ["/proc", "/sys", "absent"])
def test_a_lock_that_cannot_be_made_is_an_error(tmp_path, folder):
  with pytest.raises(OSError), files.locked(tmp_path / folder / ".lock", _no_waiting):
    pass


def test_an_error_inside_frees_the_lock(tmp_path):
  for _ in range(2):
    with pytest.raises(RuntimeError), files.locked(tmp_path / ".lock", _no_waiting):
      raise RuntimeError
  assert _names(tmp_path) == []


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_an_error_of_the_system(path):
  with pytest.raises(IsADirectoryError, match="Is a directory"):
    files.write_text(path, "x")
