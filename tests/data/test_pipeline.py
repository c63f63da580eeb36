import collections
import functools
import itertools
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.data.augment.crops import Rules, random_crop
from semiseg_jax.data.augment.families import FAMILIES, make_augment
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.pipeline import StreamSpec, make_batches
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError

REPOSITORY = pathlib.Path(__file__).parents[2]
COUNT = 10
CPS = FAMILIES["cps"]
AUGMENT = functools.partial(random_crop, rules=Rules(CPS, (8, 9), (0.5, 1.0, 1.5), 0.5))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  root = tmp_path_factory.mktemp("pipeline") / "d"
  rng = np.random.default_rng(0)
  with DatasetWriter(root, name="small", classes=["a", "b"], colors=[(0, 0, 0)] * 2) as writer:
    for i in range(COUNT):
      writer.add(
        f"p{i}",
        image=rng.integers(0, 256, (12, 14, 3), dtype=np.uint8),
        label=rng.integers(0, 2, (12, 14), dtype=np.uint8),
      )
  return Dataset.open(root)


def _streams(dataset, mix_order="unlabeled_mix", augment=AUGMENT):
  ids = dataset.info.ids
  return [
    StreamSpec("labeled", ids[:3], 2, "labeled", augment),
    StreamSpec("unlabeled", ids, 4, "unlabeled", augment),
    StreamSpec("unlabeled_mix", ids, 4, mix_order, augment),
  ]


def _take(count, dataset, streams=None, *, seed=3, start=0, rows=slice, workers=0):
  batches = make_batches(
    dataset, streams or _streams(dataset), seed=seed, start_step=start, rows=rows, workers=workers
  )
  taken = list(itertools.islice(batches, count))
  batches.close()
  return taken


def _assert_equal(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second):
    assert list(a) == list(b)
    for name in a:
      assert sorted(a[name]) == sorted(b[name])
      for field in a[name]:
        np.testing.assert_array_equal(a[name][field], b[name][field])


def test_fields(dataset):
  (batch,) = _take(1, dataset)
  assert list(batch) == ["labeled", "unlabeled", "unlabeled_mix"]
  for name, rows in (("labeled", 2), ("unlabeled", 4)):
    part = batch[name]
    shapes = {field: (part[field].shape, part[field].dtype) for field in part}
    assert shapes == {
      "image": ((rows, 8, 9, 3), np.uint8),
      "label": ((rows, 8, 9), np.uint8),
      "valid": ((rows, 4), np.int32),
      "index": ((rows,), np.int32),
    }


def test_rows_are_the_pictures_that_index_names(dataset):
  whole = functools.partial(random_crop, rules=Rules(CPS, (12, 14), (1.0,), 0.0))
  for batch in _take(3, dataset, _streams(dataset, augment=whole)):
    for part in batch.values():
      for image, label, index in zip(part["image"], part["label"], part["index"]):
        example = dataset.read(index)
        np.testing.assert_array_equal(image, example.image)
        np.testing.assert_array_equal(label, example.label)


def test_each_epoch_is_another_complete_order(dataset):
  sequence = np.concatenate([b["unlabeled"]["index"] for b in _take(10, dataset)])
  epochs = sequence.reshape(4, COUNT).tolist()
  assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
  assert len(set(map(tuple, epochs))) == 4
  labeled = np.concatenate([b["labeled"]["index"] for b in _take(6, dataset)])
  assert collections.Counter(labeled.tolist()) == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize("start", [1, 4, 7])
def test_a_later_start_sees_what_an_uninterrupted_run_saw(dataset, start):
  _assert_equal(_take(9 - start, dataset, start=start), _take(9, dataset)[start:])


@pytest.mark.parametrize("processes", [2])
def test_processes_share_the_global_batch(dataset, processes):
  def rows(rank):
    return lambda batch: slice(rank * batch // processes, (rank + 1) * batch // processes)

  parts = [_take(4, dataset, rows=rows(rank)) for rank in range(processes)]
  joined = [
    {
      name: {field: np.concatenate([part[name][field] for part in step]) for field in step[0][name]}
      for name in step[0]
    }
    for step in zip(*parts)
  ]
  _assert_equal(joined, _take(4, dataset))


def test_seed_and_stream_name_change_order_and_augmentation(dataset):
  def rest(batches, field):
    return np.concatenate([b["unlabeled"][field].ravel() for b in batches]).tolist()

  first, second = _take(5, dataset), _take(5, dataset, seed=4)
  assert rest(first, "index") != rest(second, "index")
  _assert_equal(first, _take(5, dataset))
  mix = np.concatenate([b["unlabeled_mix"]["index"] for b in first]).tolist()
  assert mix != rest(first, "index")


def test_same_order_name_gives_same_pictures_with_other_augmentations(dataset):
  differ = 0
  for batch in _take(5, dataset, _streams(dataset, mix_order="unlabeled")):
    np.testing.assert_array_equal(batch["unlabeled"]["index"], batch["unlabeled_mix"]["index"])
    differ += not np.array_equal(batch["unlabeled"]["image"], batch["unlabeled_mix"]["image"])
  assert differ == 5


def test_a_picture_is_augmented_anew_in_every_epoch(dataset):
  looks = collections.defaultdict(set)
  for batch in _take(12, dataset):
    for image, index in zip(batch["labeled"]["image"], batch["labeled"]["index"]):
      looks[int(index)].add(image.tobytes())
  assert min(map(len, looks.values())) >= 4  # of 8; the smallest scale has two looks only


@pytest.mark.slow
def test_worker_processes_change_nothing(dataset):
  found = _take(5, dataset, start=2, workers=2)
  _assert_equal(found, _take(5, dataset, start=2))
  for values in (v for batch in found for fields in batch.values() for v in fields.values()):
    assert type(values) is np.ndarray and values.base is None  # none in shared memory


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_and_how_to_mend_it(dataset):
  before = set(multiprocessing.active_children())
  batches = make_batches(dataset, _streams(dataset), seed=0, start_step=0, rows=slice, workers=1)
  next(batches)
  (worker,) = set(multiprocessing.active_children()) - before
  worker.kill()
  with pytest.raises(DataError, match=r"exit code -9\).*killed.*--config\.data\.workers"):
    for _ in range(50):  # what it had read is given first
      next(batches)
  batches.close()


def _streams_of_every_family(dataset):
  """One stream for each family and view, with the numbers of its preset."""
  streams, more = [], [("cac", "pair"), ("paddleseg", "filled")]
  for family, view in sorted([(f, "single") for f in FAMILIES] + more):
    config = schema.default()
    config.data.augment, config.data.crop = family, (8, 16)
    config.data.scales = (0.5, 2.0)
    name = f"{family}_{view}"
    augment = make_augment(config, view)
    streams.append(StreamSpec(name, dataset.info.ids, 2, name, augment))
  return streams


@pytest.mark.slow
def test_every_family_is_a_function_of_seed_stream_and_position(dataset):
  streams = _streams_of_every_family(dataset)
  whole = _take(6, dataset, streams)
  assert set(whole[0]["cac_pair"]) - set(whole[0]["cac_single"]) == {
    "image_2",
    "label_2",
    "valid_2",
    "geometry",
  }
  _assert_equal(_take(2, dataset, streams, start=4), whole[4:])
  _assert_equal(_take(3, dataset, streams, start=1, workers=2), whole[1:4])
  halves = [_take(3, dataset, streams, rows=lambda b, r=r: slice(r, r + 1)) for r in range(2)]
  for first, second, both in zip(*halves, whole):
    for name, fields in both.items():
      for field, value in fields.items():
        joined = np.concatenate([first[name][field], second[name][field]])
        np.testing.assert_array_equal(joined, value)
  other = _take(6, dataset, streams, seed=8)
  for name in whole[0]:
    assert any(not np.array_equal(a[name]["image"], b[name]["image"]) for a, b in zip(whole, other))


def test_streams_pickle(dataset):
  assert pickle.loads(pickle.dumps(_streams(dataset)))[0].ids == ("p0", "p1", "p2")


def test_reads_ahead_only_a_little(dataset):
  reads = []

  class Counting(Dataset):
    def record(self, index):
      reads.append(index)
      return super().record(index)

  counting = Counting(**dataset.__getstate__())
  _take(1, counting)
  assert len(reads) <= 10 * 10  # ten pictures a batch


def test_unknown_id_and_empty_stream(dataset):
  with pytest.raises(DataError, match="'nobody'"):
    _take(1, dataset, [StreamSpec("labeled", ("p0", "nobody"), 1, "labeled", AUGMENT)])
  with pytest.raises(DataError, match="'labeled' has no pictures"):
    _take(1, dataset, [StreamSpec("labeled", (), 1, "labeled", AUGMENT)])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_stops_with_its_name(tmp_path, workers):
  root = tmp_path / "d"
  image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
  with DatasetWriter(root, name="x", classes=["a"], colors=[(0, 0, 0)]) as writer:
    writer.add("first", image=image)
    writer.add("second", image=image)
  (shard,) = root.glob("*.array_record")
  data = bytearray(shard.read_bytes())
  data[100_000] ^= 0xFF
  shard.write_bytes(data)
  stream = StreamSpec("unlabeled", ("first", "second"), 2, "unlabeled", AUGMENT)
  with pytest.raises(Exception, match="'first'.*prepare the dataset again"):
    _take(1, Dataset.open(root), [stream], workers=workers)


@pytest.mark.slow
def test_the_program_ends_with_batches_still_open(dataset):
  code = (
    "import sys, functools\n"
    "from semiseg_jax.data import dataset, pipeline\n"
    "from semiseg_jax.data.augment import crops, families\n"
    "r = crops.Rules(families.FAMILIES['cps'], (8, 8), (1.0,), 0.5)\n"
    "a = functools.partial(crops.random_crop, rules=r)\n"
    "d = dataset.Dataset.open(sys.argv[1])\n"
    "s = [pipeline.StreamSpec('x', d.info.ids, 2, 'x', a)]\n"
    "b = pipeline.make_batches(d, s, seed=0, start_step=0, rows=slice, workers=0)\n"
    "print(next(b)['x']['index'].shape)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, dataset.root],
    capture_output=True,
    text=True,
    timeout=60,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0 and done.stdout == "(2,)\n", done.stderr


WITH_A_WORKER = """
import functools, multiprocessing, os, signal, sys, time
from semiseg_jax.data import dataset, pipeline
from semiseg_jax.data.augment import crops, families

if __name__ == "__main__":
  r = crops.Rules(families.FAMILIES["cps"], (64, 64), (1.0,), 0.5)
  a = functools.partial(crops.random_crop, rules=r)
  d = dataset.Dataset.open(sys.argv[1])
  s = [pipeline.StreamSpec("x", d.info.ids, 2, "x", a)]
  b = pipeline.make_batches(d, s, seed=0, start_step=0, rows=slice, workers=1)
  next(b)
  (worker,) = multiprocessing.active_children()
  os.kill(worker.pid, signal.SIGINT)
  for _ in range(20):  # more than lie ready
    next(b)
  print("ready", flush=True)
  time.sleep(100)
"""


@pytest.fixture
def program_with_a_worker(dataset, tmp_path):
  (tmp_path / "program.py").write_text(WITH_A_WORKER)
  process = subprocess.Popen(
    [sys.executable, str(tmp_path / "program.py"), dataset.root],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)},
  )
  yield process
  process.kill()
  process.wait()


@pytest.mark.slow
def test_workers_ignore_an_interrupt_and_end_with_a_killed_main_process(program_with_a_worker):
  process = program_with_a_worker
  assert process.stdout.readline() == "ready\n"
  process.kill()
  # The pipe ends when the last process that writes to it has ended.
  reader = threading.Thread(target=process.stdout.read, daemon=True)
  reader.start()
  reader.join(timeout=10)
  assert not reader.is_alive(), "a worker outlives the main process"
