"""What killed processes leave is removed by the next start, and what living ones write is not."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from semiseg_jax import files, leftovers
from semiseg_jax.evaluation.map_files import MapFiles

_HALF = """
import sys
from semiseg_jax import files
with files.whole(sys.argv[1]) as partial:
  partial.write_text("half")
  print("written", flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
  """Starts a process that is in the middle of a file, and gives what kills it."""
  (tmp_path / "labels" / "sub").mkdir(parents=True)
  argv = [sys.executable, "-c", _HALF, tmp_path / "labels" / "sub" / "a.png"]
  pipe = subprocess.PIPE
  with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
    assert process.stdout.readline() == b"written\n"

    def kill():
      process.kill()
      process.wait()

    yield kill
    kill()


def _partials(folder):
  return list(pathlib.Path(folder).rglob(".*.partial-*"))


def test_only_what_dead_processes_left_is_removed(tmp_path, writer):
  leftovers.clear(tmp_path, deep=True)
  assert len(_partials(tmp_path)) == 1  # its writer lives
  writer()
  leftovers.clear(tmp_path)
  assert len(_partials(tmp_path)) == 1  # not deep
  leftovers.clear(tmp_path, deep=True)
  assert not _partials(tmp_path)


def test_a_start_in_the_same_folder_removes_it(tmp_path, writer):
  writer()
  MapFiles(tmp_path, ("labels",), (), None).prepare()
  assert not _partials(tmp_path)


def test_the_next_file_beside_it_removes_it(tmp_path, writer):
  writer()
  leftovers.clear_once.cache_clear()
  files.write_text(tmp_path / "labels" / "sub" / "b.png", "whole")
  assert not _partials(tmp_path)


def test_a_process_id_that_was_given_again_is_another_process(tmp_path):
  mine = files.partial(tmp_path / "a")
  machine, pid, started, token = mine.name.partition(".partial-")[2].split("-")
  other = tmp_path / f".a.partial-{machine}-{pid}-{int(started) + 9}-{token}"
  for path in (mine, other):
    path.write_text("half")
  leftovers.clear(tmp_path)
  assert _partials(tmp_path) == [mine]


def test_of_other_machines_and_earlier_versions_age_tells(tmp_path):
  other = tmp_path / f".a.partial-00000000-1-5-{'0' * 16}"
  earlier = tmp_path / f".b.partial-{'0' * 16}"
  staged, foreign = tmp_path / f".data.partial-{'1' * 16}", tmp_path / ".c.partial-of-another"
  for path in (other, earlier, foreign):
    path.write_text("half")
  staged.mkdir()  # of a data set that is being prepared: it goes on from there
  leftovers.clear(tmp_path)
  assert len(_partials(tmp_path)) == 4
  for path in (other, earlier, staged, foreign):
    os.utime(path, (time.time() - 1e6,) * 2)
  leftovers.clear(tmp_path)
  assert sorted(_partials(tmp_path)) == sorted([staged, foreign])


def test_a_hidden_folder_is_gone_at_the_end(tmp_path):
  with pytest.raises(KeyError), files.hidden(tmp_path / "labels") as folder:
    (folder / "x").write_text("x")
    leftovers.clear(tmp_path)
    assert (folder / "x").is_file()
    raise KeyError
  assert not list(tmp_path.iterdir())
