"""Shards that begin as they should and go on otherwise are refused before the first step."""

import hashlib
import os
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest

from semiseg_jax import evaluate, peers, train
from semiseg_jax.data import shard_digests
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import inference
from tests import small_city

OTHER = "records-00001.array_record: other bytes than were written"


def _write(root, seed=0, name="d"):
  """Three shards of two raw pictures; another seed gives another last one of the second shard."""
  options = {"name": name, "classes": ["a", "b"], "colors": [(0, 0, 0), (9, 9, 9)], "codec": "raw"}
  with DatasetWriter(root, **options, shard_bytes=2 * 5400) as writer:
    for i in range(6):
      value = i + (seed if i == 3 else 0)
      writer.add(
        f"{name}{i}",
        image=np.full((40, 45, 3), value, np.uint8),
        label=np.full((40, 45), value % 2, np.uint8),
      )
    writer.lists(train=[f"{name}{i}" for i in range(4)], val=[f"{name}4", f"{name}5"])
  return Dataset.open(root)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("made")
  whole, other = _write(folder / "one"), _write(folder / "two", seed=2)
  assert len(whole.shards) == 3 and whole.shards[1].bytes == other.shards[1].bytes
  return pathlib.Path(whole.root), pathlib.Path(other.root)


@pytest.fixture(autouse=True)
def read(monkeypatch):
  """The names of the files that are read whole, by a process that has compared nothing."""
  names, digest = [], hashlib.file_digest

  def file_digest(file, kind):
    names.append(pathlib.Path(file.name).name)
    return digest(file, kind)

  monkeypatch.setattr(hashlib, "file_digest", file_digest)
  _forget(monkeypatch)
  return names


def _forget(monkeypatch):
  monkeypatch.setattr(shard_digests, "_compared", set())


@pytest.fixture
def root(made, tmp_path):
  return shutil.copytree(made[0], tmp_path / "d")


def _exchange(root, made):
  shutil.copy(made[1] / "records-00001.array_record", root)


def test_a_shard_of_a_dataset_that_differs_in_one_late_picture_is_named(root, made):
  shard_digests.compare([Dataset.open(root)])
  _exchange(root, made)
  dataset = Dataset.open(root)  # which sees no difference
  with pytest.raises(DataError) as refused:
    shard_digests.compare([dataset])
  assert f"{root}/{OTHER}" in str(refused.value) and "00000" not in str(refused.value)
  (root / "records-00002.array_record").unlink()
  with pytest.raises(DataError, match="00002.array_record: cannot be read"):
    shard_digests.compare([dataset])


def test_the_second_dataset_of_a_run_is_compared_too(root, made, tmp_path):
  joined = JoinedDataset(_write(tmp_path / "e", name="e"), Dataset.open(root))
  parts = shard_digests.folders(joined, None, joined.first)
  assert [part.root for part in parts] == [joined.first.root, joined.second.root]
  _exchange(root, made)
  with pytest.raises(DataError, match=f"{root}/{OTHER}"):
    shard_digests.compare(parts)


def test_a_run_remembers_what_it_compared(root, made, tmp_path, monkeypatch, read):
  def started():
    read.clear()
    _forget(monkeypatch)
    shard_digests.compare([Dataset.open(root)], tmp_path)
    return sorted(name[8:13] for name in read)

  assert started() == ["00000", "00001", "00002"]
  assert started() == []
  os.utime(root / "records-00002.array_record", ns=(5, 5))
  assert started() == ["00002"]
  assert started() == []
  memory = tmp_path / shard_digests.FILE
  memory.write_text(memory.read_text().replace("array", "arraz", 1))
  assert len(started()) == 3
  _exchange(root, made)
  with pytest.raises(DataError, match=OTHER):
    started()
  with pytest.raises(DataError, match=OTHER):  # nothing of that was remembered
    started()


def test_of_much_data_a_command_compares_nothing_and_says_so(root, made, capsys, read):
  _exchange(root, made)
  size = sum(path.stat().st_size for path in root.glob("*.array_record"))
  shard_digests.compare([Dataset.open(root)], most=size - 1)
  assert "only sizes and first bytes were compared" in capsys.readouterr().out and not read
  with pytest.raises(DataError, match=OTHER):
    shard_digests.compare([Dataset.open(root)], most=size)


def test_shards_without_a_digest_go_on(root, read):
  shards = [types.SimpleNamespace(file="none", bytes=1, sha256="")]
  shard_digests.compare([types.SimpleNamespace(root=str(root), shards=shards)])
  assert not read


def test_processes_that_see_the_same_files_share_them(root, monkeypatch, read):
  def told(text, *, wait_s):
    return {0: text, 1: "the files of another disk", 2: text} if len(text) == 64 else {}

  monkeypatch.setattr(peers, "told", told)
  monkeypatch.setattr(jax, "process_count", lambda: 3)
  monkeypatch.setattr(jax, "process_index", lambda: 2)
  shard_digests.compare([Dataset.open(root)])
  assert read == ["records-00001.array_record"]


def test_what_another_process_found_ends_all(root, monkeypatch):
  monkeypatch.setattr(peers, "told", lambda text, *, wait_s: {1: "there/x: other bytes"})
  with pytest.raises(DataError, match="there/x: other bytes"):
    shard_digests.compare([Dataset.open(root)])


def test_a_run_and_its_evaluation_refuse_it(tmp_path, monkeypatch):
  root = tmp_path / "city"
  small_city.write(root)
  shard = next(iter(sorted(root.glob("*.array_record"))))
  data = bytearray(shard.read_bytes())
  data[-1] ^= 1
  shard.write_bytes(data)
  config = small_city.config(root)
  with pytest.raises(DataError, match=f"{shard.name}: other bytes than were written"):
    train.train(config, str(tmp_path / "run"))
  assert not (tmp_path / "run/checkpoints").exists()
  info = Dataset.open(root).info
  about = {"classes": info.classes, "channels": 3, "fingerprint": info.fingerprint}
  trained = types.SimpleNamespace(config=config, dataset=about, labels_pictures=False)
  monkeypatch.setattr(inference, "load_trained", lambda *args, **options: trained)
  with pytest.raises(DataError, match=f"{shard.name}: other bytes than were written"):
    evaluate.evaluate(str(tmp_path / "run"))
