"""Stored targets: written whole, read back, and cropped exactly as the label."""

import functools
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from semiseg_jax import seals
from semiseg_jax.data import targets as stored
from semiseg_jax.data.augment.crops import Rules, filled_crop, random_crop
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.augment.pairs import random_pair
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.pipeline import StreamSpec, make_batches
from semiseg_jax.data.targets import FIELDS, Field, Targets
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE

CLASSES = 12
SIZES = ((40, 60), (33, 47), (24, 90), (64, 64))
MORE = {"top": Field(channels=2, fill=7), "wide": Field(channels=40), "one": Field(channels=1)}
VECTOR = {"tags": Field(kind="vector", channels=CLASSES)}


def _write_dataset(root, sizes, name="small", seed=0, prefix="p"):
  rng = np.random.default_rng(seed)
  colors = [(0, 0, 0)] * CLASSES
  with DatasetWriter(root, name=name, classes=list("abcdefghijkl"), colors=colors) as writer:
    for i, size in enumerate(sizes):
      image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
      writer.add(f"{prefix}{i}", image=image, label=rng.integers(0, CLASSES, size, dtype=np.uint8))
  return Dataset.open(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return _write_dataset(tmp_path_factory.mktemp("targets") / "d", SIZES)


def _values(label, fields=FIELDS):
  """Values that are a function of the label, so that crops of both can be compared."""
  every = {
    "label": label,
    "confidence": label * 20,
    "top": np.stack([label, 255 - label], axis=-1),
    "wide": label[..., None] + np.arange(40, dtype=np.uint8),
    "one": label[..., None] + np.uint8(3),
    "tags": (np.bincount(label.reshape(-1), minlength=CLASSES) > 0).astype(np.uint8),
  }
  return {name: every[name] for name in fields}


def _write(folder, dataset, ids=None, **options):
  with TargetsWriter(folder, dataset=dataset, about={"run": "r", "step": 3}, **options) as writer:
    for id_ in dataset.info.ids if ids is None else ids:
      label = dataset.read(dataset.index(id_)).label
      writer.add(id_, **_values(label, options.get("fields", FIELDS)))
  return Targets.open(folder)


def test_what_was_written_is_read(dataset, tmp_path):
  fields = FIELDS | MORE | VECTOR
  targets = _write(tmp_path / "t", dataset, fields=fields, shard_bytes=4000)
  assert len(targets.shards) > 1 and targets.info.ids == dataset.info.ids
  assert targets.info.fields == fields and targets.info.about == {"run": "r", "step": 3}
  assert targets.info.classes == dataset.info.classes
  assert targets.info.class_pixels == dataset.info.class_pixels
  for index, id_ in enumerate(dataset.info.ids):
    record, expected = targets.record(id_), _values(dataset.read(index).label, fields)
    y1, x1 = SIZES[index]
    found = {name: map.values for name, map in record.window(3, 5, y1, x1).items()}
    assert set(found) == {"target", "confidence", *MORE}
    for name, values in found.items():
      original = expected["label" if name == "target" else name]
      np.testing.assert_array_equal(values, original[3:, 5:])
    np.testing.assert_array_equal(record.vectors()["tags"], expected["tags"])


def test_a_large_picture_is_read_in_parts(tmp_path):
  dataset = _write_dataset(tmp_path / "d", [(1100, 1000)])
  record = _write(tmp_path / "t", dataset).record("p0")
  label = dataset.read(0).label[500:600, 700:900]
  window = record.window(500, 700, 600, 900)
  np.testing.assert_array_equal(window["target"].values, label)
  np.testing.assert_array_equal(window["confidence"].values, label * 20)


def test_equal_calls_give_equal_bytes_and_other_values_another_fingerprint(dataset, tmp_path):
  first, second = (_write(tmp_path / name, dataset) for name in "ab")
  assert first.info == second.info and first.shards == second.shards
  with TargetsWriter(tmp_path / "c", dataset=dataset, about={"run": "r", "step": 3}) as writer:
    for index, id_ in enumerate(dataset.info.ids):
      label = dataset.read(index).label
      writer.add(id_, label=label, confidence=label * 10)
  assert Targets.open(tmp_path / "c").info.fingerprint != first.info.fingerprint


# In a batch.

VIEWS = {"single": random_crop, "filled": filled_crop, "pair": random_pair}
WAYS = [(family, view) for family in FAMILIES for view in VIEWS if view != "pair"]
WAYS.append(("cac", "pair"))


def _rules(family, view):
  """Crops that are smaller and larger than the pictures, which are scaled down and up."""
  between = view == "pair" or FAMILIES[family].size.__name__ in ("long_side", "factor_and_aspect")
  scales = (0.5, 2.0) if between else (0.5, 0.75, 1.0, 1.37, 2.0)
  return Rules(FAMILIES[family], (48, 56), scales, flip=0.5, beyond=int(family == "cps"))


def _batches(dataset, streams, count=12, workers=0):
  batches = make_batches(
    dataset, streams, seed=1, start_step=0, rows=lambda b: slice(b), workers=workers
  )
  taken = list(itertools.islice(batches, count))
  batches.close()
  return taken


def _stream(dataset, targets, family="cps", view="single", ids=None):
  augment = functools.partial(VIEWS[view], rules=_rules(family, view))
  return StreamSpec("x", ids or dataset.info.ids, 4, "x", augment, targets)


@pytest.mark.parametrize("family, view", WAYS)
def test_targets_are_cropped_bit_for_bit_as_the_label(dataset, tmp_path, family, view):
  targets = _write(tmp_path / "t", dataset, fields=FIELDS | MORE | VECTOR)
  padded = 0
  for batch in _batches(dataset, [_stream(dataset, targets, family, view)]):
    fields = batch["x"]
    for end in ("", "_2") if view == "pair" else ("",):
      label = fields[f"label{end}"]
      inside, places = label != 255, _inside(fields[f"valid{end}"], label.shape)
      np.testing.assert_array_equal(inside, places)
      padded += (~inside).any()
      np.testing.assert_array_equal(fields[f"target{end}"], label)
      _assert_maps(fields, end, label, inside)
    for index, tags in zip(fields["index"], fields["tags"]):
      np.testing.assert_array_equal(tags, _values(dataset.read(index).label, VECTOR)["tags"])
  assert padded or view == "filled"


def _inside(valid, shape):
  out = np.zeros(shape, bool)
  for mask, (y0, x0, y1, x1) in zip(out, valid):
    mask[y0:y1, x0:x1] = True
  return out


def _assert_maps(fields, end, label, inside):
  expected = _values(label, ["confidence", *MORE])
  for name, values in expected.items():
    fill = (FIELDS | MORE)[name].fill
    where = inside if values.ndim == 3 else inside[..., None]
    np.testing.assert_array_equal(fields[f"{name}{end}"], np.where(where, values, np.uint8(fill)))


@pytest.mark.parametrize("family, view", WAYS)
def test_targets_change_nothing_else(dataset, tmp_path, family, view):
  targets = _write(tmp_path / "t", dataset)
  with_targets = _batches(dataset, [_stream(dataset, targets, family, view)], 4)
  without = _batches(dataset, [_stream(dataset, None, family, view)], 4)
  for one, two in zip(with_targets, without):
    more = set(one["x"]) - set(two["x"])
    ends = ("", "_2") if view == "pair" else ("",)
    assert more == {f"{name}{end}" for name in ("target", "confidence") for end in ends}
    for field, values in two["x"].items():
      np.testing.assert_array_equal(values, one["x"][field])


def test_unlabeled_pictures_have_targets(tmp_path):
  rng = np.random.default_rng(2)
  with DatasetWriter(tmp_path / "d", name="d", classes=["a"], colors=[(0, 0, 0)]) as writer:
    writer.add("p", image=rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
  dataset = Dataset.open(tmp_path / "d")
  with TargetsWriter(tmp_path / "t", dataset=dataset, about={}) as writer:
    zeros = np.zeros((40, 60), np.uint8)
    writer.add("p", label=zeros, confidence=zeros + np.uint8(9))
  (batch,) = _batches(dataset, [_stream(dataset, Targets.open(tmp_path / "t"))], 1)
  assert (batch["x"]["label"] == 255).all()
  inside = batch["x"]["target"] == 0
  assert inside.any() and (batch["x"]["confidence"] == np.where(inside, 9, 0)).all()


@pytest.mark.slow
def test_worker_processes_read_the_same(dataset, tmp_path):
  targets = _write(tmp_path / "t", dataset)
  targets.record("p0")  # an open reader does not travel
  stream = _stream(dataset, targets)
  assert len(pickle.dumps(targets)) < 2000
  for one, two in zip(_batches(dataset, [stream], 3, workers=1), _batches(dataset, [stream], 3)):
    for field, values in two["x"].items():
      np.testing.assert_array_equal(values, one["x"][field])


def test_pictures_of_a_second_folder_have_targets(dataset, tmp_path):
  second = _write_dataset(tmp_path / "second", SIZES[:2], name="more", seed=5)
  pool = JoinedDataset(dataset, second)
  assert "more/p0" in pool.info.ids
  targets = _write(tmp_path / "t", pool, ids=("more/p0", "p1"))
  (batch,) = _batches(pool, [_stream(pool, targets, ids=("more/p0", "p1"))], 1)
  np.testing.assert_array_equal(batch["x"]["target"], batch["x"]["label"])
  targets.check(pool, ["p1"])
  _write(tmp_path / "main", dataset).check(pool, ["p1"])  # ids of the first folder mean the same
  with pytest.raises(DataError, match="another dataset"):
    _write(tmp_path / "other", second).check(pool, ["p1"])


# What cannot be used.


def test_targets_of_another_dataset_or_list_are_refused(dataset, tmp_path):
  targets = _write(tmp_path / "t", dataset, ids=("p0", "p2"))
  other = _write_dataset(tmp_path / "other", SIZES, seed=9)
  with pytest.raises(DataError, match="made for another dataset .*'small'"):
    _batches(other, [_stream(other, targets, ids=("p0",))])
  with pytest.raises(DataError, match="(?s)lack 2 of 4 pictures.*no targets of 'p1'.*of 'p3'"):
    _batches(dataset, [_stream(dataset, targets)])
  with pytest.raises(DataError, match="hold no 'top', only label, confidence"):
    targets.check(dataset, ["p0"], fields=("label", "top"))
  with pytest.raises(DataError, match="lack picture 'p1'"):
    targets.record("p1")


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda t: shutil.rmtree(t), "does not exist; correct the path"),
    (lambda t: (t / "targets.json").unlink(), "holds no finished targets"),
    (lambda t: (t / "targets.json").write_text("{"), "targets.json: damaged"),
    (lambda t: _replace(t, '"fill": 255', '"fill": 254'), "targets.json: its seal is not that"),
    (lambda t: _edit(t, format=2), "format 2, this program reads 1"),
    (lambda t: _edit(t, fields={"label": {"kind": "sound"}}), "kind 'sound'"),
    (lambda t: _edit(t, fields={"label": {"sound": 1}}), "damaged .*make the targets again"),
    (lambda t: _edit(t, ids=["p0"]), r"numbers of records \[1, 4\]"),
    (lambda t: _edit(t, shards=[{}]), "damaged .*make the targets again"),
    (lambda t: _edit(t, about=None, ids=None), "damaged .*make the targets again"),
    (lambda t: (t / "records-00000.array_record").unlink(), "records-00000.array_record: missing"),
    (lambda t: os.truncate(t / "records-00000.array_record", 99), "99 bytes instead of"),
  ],
)
def test_damaged_folders_are_refused(dataset, tmp_path, change, message):
  _write(tmp_path / "t", dataset)
  change(tmp_path / "t")
  with pytest.raises(DataError, match=message):
    Targets.open(tmp_path / "t")


def _replace(folder, old, new):
  text = (folder / "targets.json").read_text()
  assert old in text
  (folder / "targets.json").write_text(text.replace(old, new))


def _edit(folder, **changes):
  file = folder / "targets.json"
  file.write_text(json.dumps(seals.sealed(json.loads(file.read_text()) | changes)))


def test_a_damaged_record_is_named(dataset, tmp_path):
  _write(tmp_path / "t", dataset)
  file = tmp_path / "t/records-00000.array_record"
  data = bytearray(file.read_bytes())
  place = data.index(b"size") + 40  # within the first record
  data[place] ^= 1
  targets = Targets.open(tmp_path / "t")
  file.write_bytes(data)
  with pytest.raises(DataError, match="other records than were written"):
    Targets.open(tmp_path / "t")
  with pytest.raises(DataError, match=r"'p0'\).* is damaged .*make the targets again"):
    targets.record("p0")


def test_values_that_do_not_decode_are_named(dataset, tmp_path):
  data = stored.encode_targets("p0", {"one": np.zeros(3, np.uint8)}, {"one": _vector(3)}, (4, 5))
  record = stored.TargetRecord(data, {"one": _vector(4)}, "targets T of 'p0'")
  with pytest.raises(DataError, match="targets T of 'p0': 'one' does not decode"):
    record.vectors()
  with pytest.raises(DataError, match="targets T of 'p0': damaged"):
    stored.TargetRecord(data, {"two": _vector(3)}, "targets T of 'p0'")


def _vector(channels):
  return Field(kind="vector", channels=channels)


def test_targets_of_another_size_are_refused(dataset, tmp_path):
  targets = _write(tmp_path / "t", dataset)
  with pytest.raises(DataError, match=r"of size \[33, 47\], its picture of \[40, 60\]"):
    stored.WithTargets(dataset.record(0), targets.record("p1"))


# Writing.


@pytest.mark.parametrize(
  "values, message",
  [
    ({"label": np.zeros(SIZES[0], np.uint8)}, "field 'confidence' is not given"),
    ({"label": np.zeros(SIZES[0], int)}, r"'label': expected uint8 \[40, 60\], got int64"),
    ({"label": np.zeros((60, 40), np.uint8)}, r"'label': expected .* got uint8 \[60, 40\]"),
    ({"labels": np.zeros(SIZES[0], np.uint8)}, "field 'labels' is none of these"),
    (
      _values(np.full(SIZES[0], 12, np.uint8)),
      r"class ids \[12\]; the dataset has classes 0 to 11",
    ),
  ],
)
def test_wrong_values_are_refused(dataset, tmp_path, values, message):
  with pytest.raises(DataError, match=message):
    with TargetsWriter(tmp_path / "t", dataset=dataset, about={}) as writer:
      writer.add("p0", **values)
  assert list(tmp_path.iterdir()) == []


def test_wrong_ids_are_refused(dataset, tmp_path):
  values = _values(dataset.read(0).label)
  with pytest.raises(DataError, match="'nobody' is not in dataset 'small'"):
    with TargetsWriter(tmp_path / "t", dataset=dataset, about={}) as writer:
      writer.add("nobody", **values)
  with pytest.raises(DataError, match="'p0' were added twice"):
    with TargetsWriter(tmp_path / "t", dataset=dataset, about={}) as writer:
      writer.add("p0", **values)
      writer.add("p0", **values)
  with pytest.raises(DataError, match="no targets were added"):
    with TargetsWriter(tmp_path / "t", dataset=dataset, about={}):
      pass
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "fields, message",
  [
    ({}, "no fields"),
    ({"image": Field()}, "field 'image': choose another name"),
    ({"top_2": Field()}, "field 'top_2': choose another name"),
    ({"label": Field()}, "field 'label' is .* everywhere"),
    ({"tags": Field(kind="vector")}, "0 channels"),
    ({"top": Field(fill=256)}, "fill 256"),
  ],
)
def test_wrong_fields_are_refused(dataset, tmp_path, fields, message):
  with pytest.raises(DataError, match=message):
    TargetsWriter(tmp_path / "t", dataset=dataset, about={}, fields=fields)


def test_finished_targets_are_replaced_only_on_request(dataset, tmp_path):
  _write(tmp_path / "t", dataset)
  with pytest.raises(DataError, match="t exists"):
    _write(tmp_path / "t", dataset, ids=("p0",))
  assert len(Targets.open(tmp_path / "t")) == 4
  assert len(_write(tmp_path / "t", dataset, ids=("p0",), overwrite=True)) == 1
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine/thesis.txt").write_text("years of work")
  with pytest.raises(DataError, match=r"holds no targets\.json, so it is not overwritten"):
    _write(tmp_path / "mine", dataset, overwrite=True)


_KILLED = """
import sys, numpy as np
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.targets_writer import TargetsWriter
dataset = Dataset.open(sys.argv[1])
with TargetsWriter(sys.argv[2], dataset=dataset, about={}, shard_bytes=1) as writer:
  for index, id_ in enumerate(dataset.info.ids[:3]):
    label = dataset.read(index).label
    writer.add(id_, label=label, confidence=label)
  print("ready", flush=True)
  sys.stdin.read()
"""


def test_a_killed_writer_leaves_nothing_that_opens(dataset, tmp_path):
  command = [sys.executable, "-c", _KILLED, dataset.root, str(tmp_path / "t")]
  writer = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
  assert writer.stdout.readline() == "ready\n"
  writer.send_signal(signal.SIGKILL)
  writer.communicate()
  with pytest.raises(DataError, match="does not exist"):
    Targets.open(tmp_path / "t")
  (remains,) = tmp_path.glob(".t.partial*")
  with pytest.raises(DataError, match="holds no finished targets"):
    Targets.open(remains)
  assert len(_write(tmp_path / "t", dataset)) == 4
  assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_soft_labels_are_stored_and_read_as_probabilities():
  """What the stored classes leave is of the others alike; padding is of no class."""
  fields = stored.soft_fields(2)
  assert stored.soft_fields(0) == stored.FIELDS
  values = {
    "top_classes": np.array([[[2, 0], [1, 3]]], np.uint8),
    "top_probabilities": np.array([[[153, 51], [255, 0]]], np.uint8),
    "label": np.array([[2, 1]], np.uint8),
    "confidence": np.array([[153, 255]], np.uint8),
  }
  record = stored.TargetRecord(stored.encode_targets("a", values, fields, (1, 2)), fields, "a")
  maps = record.window(0, 0, 1, 2)
  assert maps["top_classes"].fill == IGNORE and maps["top_probabilities"].fill == 0
  p = stored.soft(maps["top_classes"].values, maps["top_probabilities"].values, 4)
  np.testing.assert_allclose(p, [[[0.2, 0.1, 0.6, 0.1], [0, 1, 0, 0]]], atol=1e-6)
  nothing = np.full((1, 2), IGNORE, np.uint8)
  assert not stored.soft(nothing, np.zeros((1, 2), np.uint8), 4).any()
  two = stored.soft(np.array([1, 0], np.uint8), np.array([128, 128], np.uint8), 2)
  np.testing.assert_allclose(two, [0.5, 0.5])
