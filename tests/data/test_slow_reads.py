"""Shards on a mounted bucket: a call takes long, so a batch takes one call, and runs ahead."""

import time

import numpy as np
import pytest

from semiseg_jax.data import shard_reader
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.pipeline import StreamSpec, make_batches
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.training.feed import Prefetch

COUNT, LATENCY_S, STEP_S = 40, 0.03, 0.06


def _write(root, seed, name):
  rng = np.random.default_rng(seed)
  with DatasetWriter(root, name=name, classes=["a", "b"], colors=[(0, 0, 0)] * 2) as writer:
    for i in range(COUNT):
      writer.add(f"p{i}", image=rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), label=None)
  return Dataset.open(root)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
  folder = tmp_path_factory.mktemp("slow")
  return _write(folder / "a", 0, "a"), _write(folder / "b", 1, "b")


@pytest.fixture
def calls(monkeypatch):
  """The number of records of each call that reads shards; each call takes its time."""
  found, reader = [], shard_reader.array_record_module.ArrayRecordReader

  class Slow:
    def __init__(self, *args):
      self._reader = reader(*args)

    def read(self, indices):
      found.append(len(indices))
      time.sleep(LATENCY_S)
      return self._reader.read(indices)

  monkeypatch.setattr(shard_reader.array_record_module, "ArrayRecordReader", Slow)
  return found


def _whole(record, rng):
  return {"image": record.window(0, 0, 6, 6).image}


def _batches(dataset, ids, start=0):
  streams = [
    StreamSpec("labeled", ids[:5], 3, "labeled", _whole),
    StreamSpec("unlabeled", ids, 4, "unlabeled", _whole),
    StreamSpec("again", ids, 4, "unlabeled", _whole),  # the same pictures once more
  ]
  return make_batches(dataset, streams, seed=1, start_step=start, rows=slice, workers=0)


def _fresh(dataset):
  return Dataset.open(dataset.root)


def test_a_batch_is_one_call_for_each_shard(datasets, calls):
  dataset = _fresh(datasets[0])
  batches = _batches(dataset, dataset.info.ids)
  taken = [next(batches) for _ in range(4)]
  batches.close()
  assert set(calls) <= {4, 5, 6, 7}, "some records of a batch were read on their own"
  for batch in taken:
    for stream in batch.values():
      for image, index in zip(stream["image"], stream["index"]):
        np.testing.assert_array_equal(image, datasets[0].read(int(index)).image)


def test_two_datasets_take_two_calls(datasets, calls):
  joined = JoinedDataset(*map(_fresh, datasets))
  asked = [0, COUNT + 1, 7, COUNT + 5, 0]
  joined.read_ahead(asked)
  assert calls == [2, 2]
  images = [joined.read(index).image for index in asked]
  assert calls == [2, 2], "a record was read once more"
  for index, image in zip(asked, images):
    np.testing.assert_array_equal(image, datasets[index // COUNT].read(index % COUNT).image)


def test_the_next_batches_are_read_while_a_step_runs(datasets, calls):
  dataset = _fresh(datasets[0])
  batches = Prefetch(_batches(dataset, dataset.info.ids), lambda batch: batch)
  next(batches)
  batches.wait_s, steps, began = 0.0, 12, len(calls)
  for _ in range(steps):
    next(batches)
    time.sleep(STEP_S)
  batches.close()
  read_s = (len(calls) - began) * LATENCY_S
  assert len(calls) - began >= steps - 8
  assert batches.wait_s < 0.3 * read_s, f"waited {batches.wait_s:.2f} s of {read_s:.2f} s of reads"
