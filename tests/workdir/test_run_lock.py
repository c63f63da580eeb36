"""One run per work directory: who is refused, and which locks are those of the dead."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.workdir import run_lock


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(run_lock, "BEAT_S", 0.02)
  monkeypatch.setattr(run_lock, "STALE_S", 0.3)
  monkeypatch.setattr(run_lock, "_LOOK_S", 0.02)


def _write(folder, **changes):
  holder = dataclasses.replace(run_lock.Holder.here(), **changes)
  (folder / run_lock.LOCK).write_text(json.dumps(dataclasses.asdict(holder)))
  return holder


def _is_held(folder):
  with run_lock.held(folder):
    run_lock.check()
    return json.loads((folder / run_lock.LOCK).read_text())["pid"] == os.getpid()


@pytest.fixture
def sleeper():
  process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
  yield process
  process.kill()
  process.wait()


def _started(pid):
  return psutil.Process(pid).create_time() - psutil.boot_time()


def test_a_folder_is_made_and_nothing_is_left(tmp_path):
  with run_lock.held(tmp_path / "run"):
    assert sorted(os.listdir(tmp_path / "run")) == [run_lock.LOCK]
    with run_lock.held(tmp_path / "run"):  # a stage, or the loop inside of the command
      pass
    assert (tmp_path / "run" / run_lock.LOCK).exists()
    (tmp_path / "run" / "metrics.jsonl").touch()
  assert os.listdir(tmp_path / "run") == ["metrics.jsonl"]
  with run_lock.held(tmp_path / "empty"):
    pass
  assert not (tmp_path / "empty").exists()


def test_a_run_that_lives_is_left_alone_and_named(tmp_path, sleeper):
  _write(tmp_path, pid=sleeper.pid, started=_started(sleeper.pid), since="yesterday")
  before = (tmp_path / run_lock.LOCK).read_bytes()
  with pytest.raises(ConfigError) as refused, run_lock.held(tmp_path):
    pass
  said = str(refused.value)
  assert f"process {sleeper.pid} on " in said and "since yesterday" in said
  assert f"kill {sleeper.pid})" in said and "\n" not in said
  assert (tmp_path / run_lock.LOCK).read_bytes() == before
  assert os.listdir(tmp_path) == [run_lock.LOCK]


def test_another_thread_of_this_process_is_refused(tmp_path):
  found = []

  def second():
    try:
      with run_lock.held(tmp_path):
        found.append("held")
    except ConfigError as error:
      found.append(str(error))

  with run_lock.held(tmp_path):
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
  assert f"process {os.getpid()}" in found[0]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, sleeper):
  _write(tmp_path, pid=sleeper.pid, started=_started(sleeper.pid))
  sleeper.kill()  # and not waited for: a zombie
  while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.01)
  assert _is_held(tmp_path)
  _write(tmp_path, pid=sleeper.pid)
  sleeper.wait()
  assert _is_held(tmp_path)


def test_the_lock_of_a_process_whose_id_another_program_has_is_taken_over(tmp_path, sleeper):
  _write(tmp_path, pid=sleeper.pid, started=_started(sleeper.pid) - 100)
  assert _is_held(tmp_path)


def test_another_host_is_believed_as_long_as_its_lock_is_renewed(tmp_path, sleeper):
  # The process of this id here lives, and is not the one.
  _write(tmp_path, host="node7", machine="m", pid=sleeper.pid, started=_started(sleeper.pid))
  began = time.monotonic()
  assert _is_held(tmp_path)
  assert time.monotonic() - began > 0.2  # it was waited for a sign of life

  _write(tmp_path, host="node7", machine="m", pid=1)
  end = threading.Event()

  def renew():
    while not end.wait(0.05):
      os.utime(tmp_path / run_lock.LOCK)

  thread = threading.Thread(target=renew)
  thread.start()
  try:
    with pytest.raises(ConfigError, match="process 1 on node7.*kill 1 on node7"):
      _is_held(tmp_path)
  finally:
    end.set()
    thread.join()


def test_a_lock_is_renewed_by_its_holder(tmp_path):
  with run_lock.held(tmp_path):
    file = tmp_path / run_lock.LOCK
    os.utime(file, (1, 1))
    deadline = time.monotonic() + 5
    while file.stat().st_mtime == 1 and time.monotonic() < deadline:
      time.sleep(0.01)
    assert file.stat().st_mtime > 1


def test_an_old_lock_of_another_host_is_taken_over_at_once(tmp_path, monkeypatch):
  monkeypatch.setattr(run_lock, "STALE_S", 60.0)
  _write(tmp_path, host="node7", machine="m")
  os.utime(tmp_path / run_lock.LOCK, (1, 1))
  assert _is_held(tmp_path)


@pytest.mark.parametrize("text", [b"", b"\0\xff", b"[]", b'{"host": 3}', b'{"pid": '])
def test_a_lock_without_sense_is_waited_for_and_replaced(tmp_path, text):
  (tmp_path / run_lock.LOCK).write_bytes(text)
  assert _is_held(tmp_path)


def test_a_folder_in_its_place_is_named(tmp_path):
  (tmp_path / run_lock.LOCK).mkdir()
  with pytest.raises(ConfigError, match="run.lock is no file"):
    _is_held(tmp_path)


def test_a_link_that_leads_nowhere_is_replaced(tmp_path):
  (tmp_path / run_lock.LOCK).symlink_to("nowhere")
  assert _is_held(tmp_path)


def test_where_nothing_can_be_written_nothing_is_locked(tmp_path):
  (tmp_path / "file").touch()
  with run_lock.held(tmp_path / "file"), run_lock.held(tmp_path / "file" / "run"):
    run_lock.check()


def test_a_run_whose_lock_was_taken_over_stops(tmp_path):
  with run_lock.held(tmp_path):
    other = _write(tmp_path, host="node7", machine="m")
    with pytest.raises(ConfigError, match="taken over by process .* on node7"):
      run_lock.check()
  assert json.loads((tmp_path / run_lock.LOCK).read_text())["token"] == other.token


def test_a_lock_that_another_took_over_meanwhile_is_left_alone(tmp_path, monkeypatch, sleeper):
  _write(tmp_path, pid=2**22 - 3)
  judge, taken = run_lock._dead, []

  def slow(file):
    found = judge(file)
    if not taken:
      taken.append(_write(tmp_path, pid=sleeper.pid, started=_started(sleeper.pid)))
    return found

  monkeypatch.setattr(run_lock, "_dead", slow)
  with pytest.raises(ConfigError, match=f"process {sleeper.pid} "):
    _is_held(tmp_path)
  assert taken[0].token in (tmp_path / run_lock.LOCK).read_text()


def test_of_many_that_start_at_once_one_holds_it(tmp_path):
  _write(tmp_path, pid=2**22 - 3)  # of a dead process: all want to take it over
  code = (
    "import sys, types\n"
    "sys.modules['jax'] = types.SimpleNamespace(process_index=lambda: 0)\n"  # takes seconds
    "from semiseg_jax.errors import ConfigError\n"
    "from semiseg_jax.workdir import run_lock\n"
    "sys.stdin.readline()\n"
    "try:\n"
    "  with run_lock.held(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.readline()\n"
    "except ConfigError:\n"
    "  print('refused', flush=True)\n"
  )
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
  starts = [
    subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) for _ in range(3)
  ]
  for process in starts:
    process.stdin.write("\n")
    process.stdin.flush()
  found = [process.stdout.readline().strip() for process in starts]
  for process in starts:
    process.communicate("\n")
  assert sorted(found) == ["held", "refused", "refused"]
