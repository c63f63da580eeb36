"""A work directory in a store: whatever moment a run is cut off, what looks whole is whole."""

import contextlib
import json
import logging
import pathlib
import tempfile
import time

import fsspec
import jax
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import CheckpointError, ConfigError, DataError, DiskError
from semiseg_jax.workdir import lease, mirror, store
from semiseg_jax.workdir.checkpoints import Checkpoints
from semiseg_jax.workdir.mirror import Mirror
from semiseg_jax.workdir.objects import Objects
from tests.workdir.test_checkpoints import _equal, _meta, _state


class _Cut(BaseException):
  """The process is killed here: nothing after it happens."""


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
  """A folder of this test for mirrors, and an empty store."""
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
  (tmp_path / "scratch").mkdir()
  fsspec.filesystem("memory").store.clear()
  return tmp_path / "scratch"


@pytest.fixture
def no_lease(monkeypatch):
  """Nobody else is there: a start need not wait for a run that a test cut off."""

  class Free:
    def __init__(self, objects):
      self.took_over = objects.read(lease.NAME) is not None
      objects.write(lease.NAME, b"{}")

    def check(self):
      pass

    def release(self):
      pass

  monkeypatch.setattr(mirror, "Lease", Free)


def _write(root, files):
  for name, text in files.items():
    path = pathlib.Path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _checkpoint(step):
  names = ("metrics/metrics", "meta/metadata", "model/manifest", "model/d/a", "train/d/b")
  return {f"checkpoints/{step}/{name}": f"{name} of {step}" for name in names}


def _rows(last):
  return "".join(json.dumps({"step": step}) + "\n" for step in range(last + 1))


def _labels():
  return {
    "targets/r-0.array_record": "0",
    "targets/r-1.array_record": "1",
    "targets/targets.json": "2",
  }


def _train(root):
  """What a run leaves, moment by moment: a save, labels, a save that removes the one before."""
  have = max((int(p.name) for p in pathlib.Path(root).glob("checkpoints/*")), default=0)
  if have < 3:
    _write(root, {"config.json": "{}", "metrics.jsonl": _rows(3), **_checkpoint(3)})
    yield
  _write(root, {"metrics.jsonl": _rows(6), **(_checkpoint(6) if have < 6 else {}), **_labels()})
  with contextlib.suppress(FileNotFoundError):
    for file in sorted(pathlib.Path(root, "checkpoints/3").rglob("*"), reverse=True):
      file.rmdir() if file.is_dir() else file.unlink()
    pathlib.Path(root, "checkpoints/3").rmdir()
  yield


def _run(url):
  run = Mirror(url, trains=True, owns=True)
  try:
    for _ in _train(run.root):
      run.push()
  finally:
    run.close()


def _one_by_one(monkeypatch, cut):
  """Each object that is written or removed is an operation; before number `cut` the run ends."""
  count = iter(range(10**6))

  def single(done):
    def many(self, *args):
      *before, names = args
      for name in names:
        if next(count) == cut:
          raise _Cut
        done(self, *before, [name])

    return many

  def write(self, name, content):
    if next(count) == cut:
      raise _Cut
    whole(self, name, content)

  whole = Objects.write
  monkeypatch.setattr(Objects, "upload", single(Objects.upload))
  monkeypatch.setattr(Objects, "remove", single(Objects.remove))
  monkeypatch.setattr(Objects, "write", write)
  return count


def _seen(url):
  """What a reader gets: name -> text, of checkpoints whole."""
  reader = Mirror(url, trains=True)
  for folder in reader.root.glob("checkpoints/*"):
    reader.fetch(folder)
  files = [p for p in reader.root.rglob("*") if p.is_file()]
  found = {p.relative_to(reader.root).as_posix(): p.read_text() for p in files}
  reader.close()
  return found


def test_a_run_that_is_cut_off_anywhere_leaves_nothing_half_written(no_lease, monkeypatch):
  with monkeypatch.context() as patched:
    count = _one_by_one(patched, cut=-1)
    _run("memory://whole/run")
  operations, left = next(count), Objects("memory://whole/run").list().keys()
  expected = {**_checkpoint(6), **_labels(), "config.json": "{}", "metrics.jsonl": _rows(6)}
  assert _seen("memory://whole/run") == expected and operations > 20

  for cut in range(operations):
    url = f"memory://cut/{cut}"
    with monkeypatch.context() as patched, pytest.raises(_Cut):
      _one_by_one(patched, cut)
      _run(url)
    found = _seen(url)
    steps = {int(name.split("/")[1]) for name in found if name.startswith("checkpoints/")}
    for step in steps:
      there = {n: text for n, text in found.items() if n.startswith(f"checkpoints/{step}/")}
      assert there == _checkpoint(step), f"cut before operation {cut}"
      assert found["metrics.jsonl"].startswith(_rows(step))
    if any(name.startswith("targets/") for name in found):
      assert _labels().items() <= found.items()
    if cut > 8:
      assert steps, f"cut before operation {cut}: the checkpoint before is lost"
    _run(url)
    assert _seen(url) == expected and Objects(url).list().keys() == left


def test_who_evaluates_a_run_that_goes_on_removes_nothing_of_it(no_lease, monkeypatch):
  with monkeypatch.context() as patched, pytest.raises(_Cut):
    _one_by_one(patched, 4)
    _run("memory://b/run")
  half = Objects("memory://b/run").list().keys()
  assert any("checkpoints/3" in name for name in half)
  with store.opened("memory://b/run") as folder:
    assert not list(pathlib.Path(folder).glob("checkpoints/*"))
    _write(folder, {"evaluations/val.json": "{}"})
  assert Objects("memory://b/run").list().keys() == half | {"evaluations/val.json"}


def test_a_checkpoint_whose_object_is_lost_is_damaged_and_moved_aside(caplog):
  url = "memory://b/run"
  with store.opened(url, owns=True) as folder:
    saved = Checkpoints(folder, keep=3)
    for step in (1, 2):
      saved.save(_state(step, shift=step), _meta(), 0.5)
      saved.wait()
      store.push(folder)
    saved.close()
  objects = Objects(url)
  arrays = [name for name in objects.list() if name.startswith("checkpoints/2/model/ocdbt")]
  objects.remove([name for name in arrays if "/d/" in name])
  with caplog.at_level(logging.ERROR), store.opened(url, owns=True) as folder:
    saved = Checkpoints(folder, keep=3)
    restored = saved.restore(_state(0))
    saved.close()
  assert _equal(restored, _state(1, shift=1))
  assert "memory://b/run/checkpoints/2 is damaged" in caplog.text
  assert "of step 2 to memory://b/run/unusable/2-" in caplog.text
  names = objects.list()
  assert any(n.startswith("unusable/2-") for n in names)
  assert not any(n.startswith("checkpoints/2/") for n in names)


def test_arrays_come_when_they_are_asked_for(no_lease):
  _run("memory://b/run")
  with store.opened("memory://b/run", writes=False) as folder:
    have = lambda name: pathlib.Path(folder, "checkpoints/6", name).is_file()
    assert have("meta/metadata") and not have("model/d/a")
    assert [p.name for p in pathlib.Path(folder, "targets").iterdir()] == ["targets.json"]
    store.fetch(pathlib.Path(folder, "checkpoints/6"))
    assert have("model/d/a") and have("train/d/b")


def test_checkpoints_that_were_copied_to_a_store_by_hand_count(no_lease, tmp_path):
  saved = Checkpoints(tmp_path / "run")
  saved.save(_state(2, shift=1.0), _meta(), 0.5)
  saved.close()
  fsspec.filesystem("memory").put(f"{tmp_path}/run/", "/b/run/", recursive=True)
  url = "memory://b/run"
  with store.opened(url, writes=False) as folder:
    assert Checkpoints(folder, read_only=True).steps() == [2]
  with store.opened(url, owns=True) as folder:
    assert _equal(Checkpoints(folder).restore(_state(0)), _state(2, shift=1.0))
  assert "checkpoints/2/WHOLE.json" in Objects(url).list()
  with store.opened(url, owns=True) as folder:  # after a run that was killed it is still whole
    assert Checkpoints(folder).steps() == [2]


def test_errors_name_the_store_and_a_disk_is_left_as_it_is(tmp_path, scratch):
  with pytest.raises(CheckpointError, match="No checkpoints under memory://b/run/checkpoints"):
    with store.opened("memory://b/run", writes=False) as folder:
      Checkpoints(folder, read_only=True)
  assert not list(scratch.iterdir()), "the mirror is left"
  with store.opened(tmp_path / "run", owns=True) as folder:
    assert folder == str(tmp_path / "run") and store.of(folder) is None
  assert not (tmp_path / "run").exists()
  with pytest.raises(ConfigError, match="ftp://b/run: object stores are written gs://"):
    Mirror("ftp://b/run")
  with pytest.raises(ConfigError, match="names no bucket"):
    Mirror("gs://")
  with pytest.raises(ConfigError, match="--out=gs://b/labels"):
    store.refuse("gs://b/labels", "--out")
  with pytest.raises(DataError, match="gs://b/city: shards are written to a disk"):
    DatasetWriter("gs://b/city", name="c", classes=["a"], colors=[(0, 0, 0)])


def test_what_a_run_leaves_with_an_error_is_in_the_store():
  with pytest.raises(DiskError), store.opened("memory://b/run", owns=True) as folder:
    _write(folder, {"metrics.jsonl": _rows(2), "run.lock": "", ".partial-1": "half"})
    raise DiskError("a full disk")
  objects = Objects("memory://b/run")
  assert objects.list().keys() == {"metrics.jsonl"}
  assert objects.read("metrics.jsonl") == _rows(2).encode()


def test_mirrors_of_killed_processes_are_removed_and_those_of_living_ones_stay(scratch):
  living = Mirror("memory://b/run")
  dead = scratch / "semiseg-store-dead"
  (dead / "run").mkdir(parents=True)
  (dead / ".lock").touch()
  Mirror("memory://b/other").close()
  assert not dead.exists() and living.root.is_dir()
  living.close()
  assert not list(scratch.iterdir())


def test_pushes_wait_for_their_checkpoint_and_tell_what_went_wrong(monkeypatch):
  with store.opened("memory://b/run", owns=True) as folder:
    pushes = store.Pushes(folder, lambda: None)
    pushes.begin(3)
    time.sleep(0.15)
    assert "checkpoints/3/WHOLE.json" not in Objects("memory://b/run").list()
    _write(folder, _checkpoint(3))
    pushes.finish()
    assert "checkpoints/3/WHOLE.json" in Objects("memory://b/run").list()
    with monkeypatch.context() as patched:
      patched.setattr(Objects, "upload", _fails)
      _write(folder, _checkpoint(6))
      pushes.begin(6)
      with pytest.raises(DiskError, match="no network"):
        pushes.finish()
    pushes.begin(9)  # never written
    pushes.close()


def _fails(*args):
  raise DiskError("no network")


def test_one_run_writes_to_a_store(monkeypatch):
  monkeypatch.setattr(lease, "_SETTLED_S", 0.0)
  objects = Objects("memory://b/run")
  first = lease.Lease(objects, beat_s=0.02, silent_s=0.3)
  with pytest.raises(ConfigError, match=r"memory://b/run: the run of process \d+ on .* writes"):
    lease.Lease(objects, beat_s=0.02, silent_s=0.3)
  first.check()
  first._end.set()  # it is killed
  first._thread.join()
  second = lease.Lease(objects, beat_s=0.02, silent_s=0.1)
  with pytest.raises(DiskError, match="writes there now; this run ends"):
    first.check()
  second.release()
  assert objects.read(lease.NAME) is None


def test_a_run_whose_process_is_gone_is_taken_over_at_once(monkeypatch):
  monkeypatch.setattr(lease, "_SETTLED_S", 0.0)
  objects = Objects("memory://b/run")
  first = lease.Lease(objects)
  about = json.loads(objects.read(lease.NAME))
  first.release()
  gone = {**about, "born": about["born"] - 5}
  objects.write(lease.NAME, json.dumps(gone).encode())
  lease.Lease(objects, silent_s=60).release()
  # The same on another machine, of which nothing can be known here but that it is silent.
  objects.write(lease.NAME, json.dumps({**gone, "machine": "another"}).encode())
  began = time.monotonic()
  lease.Lease(objects, beat_s=0.1, silent_s=0.3).release()
  assert time.monotonic() - began >= 0.3


def test_processes_other_than_the_first_write_nothing(monkeypatch):
  with store.opened("memory://b/run", owns=True) as folder:
    _write(folder, {"metrics.jsonl": _rows(1)})
  before = Objects("memory://b/run").list()
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with store.opened("memory://b/run", owns=True) as folder:
    assert pathlib.Path(folder, "metrics.jsonl").read_text() == _rows(1)
    _write(folder, {"metrics.jsonl": _rows(2), "config.json": "{}"})
    pushes = store.Pushes(folder, lambda: None)
    pushes.begin(1)
    pushes.finish()
    pushes.close()
  assert Objects("memory://b/run").list() == before


def test_what_lies_on_the_host_is_placed_as_before():
  like = jax.device_put(np.zeros((2, 3)), sharding.replicated(sharding.make_mesh()))
  placed = sharding.placed_as(np.arange(6.0).reshape(2, 3), like)
  assert placed.sharding == like.sharding
  np.testing.assert_array_equal(sharding.gathered(placed), [[0, 1, 2], [3, 4, 5]])
