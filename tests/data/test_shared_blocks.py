import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from semiseg_jax.data import shared_blocks
from tests import small_city

REPOSITORY = pathlib.Path(__file__).parents[2]
READER = """
import sys, numpy as np
from semiseg_jax.data import pipeline
from semiseg_jax.data.dataset import Dataset

def whole(record, rng):
  return {"image": record.window(0, 0, *record.size).image}

if __name__ == "__main__":
  data = Dataset.open(sys.argv[1])
  stream = pipeline.StreamSpec("labeled", tuple(data.info.ids), 4, "labeled", whole)
  batches = pipeline.make_batches(
    data, [stream], seed=0, start_step=0, rows=lambda n: slice(0, n), workers=1)
  next(batches)
  print("reading", flush=True)
  sys.stdin.read()
"""


def _names(folder):
  return {path.name for path in folder.iterdir()}


def test_only_what_a_dead_run_left_is_removed(tmp_path):
  living, lock = shared_blocks.mark(tmp_path)
  dead, ended = shared_blocks.mark(tmp_path)
  others = {f"sem.{living}-1", "psm_1234", "sem.mp-abc", "semiseg_notes", f"{living}_0a"}
  for name in (*others, f"{dead}_0a", f"{dead}_0b", f"sem.{dead}-1"):
    (tmp_path / name).write_bytes(b"block")
  assert shared_blocks.remove_dead(tmp_path) == 0
  ended.release()  # as the system does when the process ends
  (tmp_path / dead).touch()
  assert shared_blocks.remove_dead(tmp_path) == 3
  assert _names(tmp_path) == {living, *others}
  lock.release()


def test_where_there_is_no_folder_of_shared_memory(tmp_path):
  assert shared_blocks.mark(tmp_path / "none") is None
  assert shared_blocks.remove_dead(tmp_path / "none") == 0


def test_blocks_are_named_after_their_run(monkeypatch):
  monkeypatch.setattr(shared_blocks.Block, "run", "semiseg_1_ab")
  block = shared_blocks.Block(create=True, size=8)
  try:
    assert block.name.startswith("semiseg_1_ab_")
    again = shared_blocks.Block(block.name)
    assert again.size == block.size
    again.close()
  finally:
    block.close()
    block.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not shared_blocks.SHARED.is_dir(), reason="shared memory has no folder here")
def test_a_run_whose_processes_were_all_killed_leaves_nothing_to_the_next(tmp_path):
  small_city.write(tmp_path / "city")
  (tmp_path / "reader.py").write_text(READER)
  run = subprocess.Popen(
    [sys.executable, tmp_path / "reader.py", tmp_path / "city"],
    env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    start_new_session=True,
  )
  assert run.stdout.readline() == b"reading\n"
  blocks = _settled(run.pid)
  assert {name.startswith("sem.") for name in blocks} == {True, False}
  assert any(name.count("_") == 3 for name in blocks)  # a batch, beside the mark of the run
  shared_blocks.remove_dead()
  assert blocks <= _of_run(run.pid)
  os.killpg(run.pid, signal.SIGKILL)
  run.wait()
  shared_blocks.remove_dead()  # the start of a run beside this test may have done so already
  assert not _of_run(run.pid)


def _of_run(pid):
  return {name for name in _names(shared_blocks.SHARED) if f"semiseg_{pid}_" in name}


def _settled(pid):
  """What the run has in shared memory once the batches ahead are read and none is on its way."""
  seen = []
  for _ in range(600):
    seen.append(_of_run(pid))
    if len(seen) >= 10 and all(names == seen[-1] for names in seen[-10:]):
      return seen[-1]
    time.sleep(0.1)
  raise AssertionError(f"the batches ahead did not come to rest: {seen[-1]}")
