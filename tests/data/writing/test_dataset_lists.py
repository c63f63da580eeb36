"""Lists are added to a finished dataset whole or not at all."""

import json
import pathlib
import threading
import time

import numpy as np
import pytest

from semiseg_jax import files
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.records import Record
from semiseg_jax.data.writing import dataset_lists
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError


def _label(number):
  label = np.random.default_rng(number).integers(0, 2, (5, 6), dtype=np.uint8)
  label[0, :number] = 255
  return label


@pytest.fixture
def root(tmp_path):
  with DatasetWriter(tmp_path / "d", name="d", classes=["a", "b"], colors=[(0, 0, 0)] * 2) as w:
    for i in range(6):
      w.add(f"p{i}", image=np.zeros((5, 6, 3), np.uint8), label=_label(i) if i < 5 else None)
    w.lists(train=[f"p{i}" for i in range(6)])
  return tmp_path / "d"


def _pixels(numbers):
  values = np.concatenate([_label(i).ravel() for i in numbers])
  return tuple(int((values == value).sum()) for value in (0, 1, 255))


def _files(root):
  return {p.name: p.read_bytes() for p in pathlib.Path(root).rglob("*") if p.is_file()}


def test_lists_are_as_if_written_with_the_dataset(root, tmp_path):
  dataset_lists.add_lists(root, {"few": ("p4", "p1"), "more": ("p5", "p0")})
  info = Dataset.open(root).info
  assert info.lists["few"] == ("p4", "p1") and info.lists["more"] == ("p5", "p0")
  assert info.list_pixels["few"] == _pixels((4, 1)) and info.list_pixels["more"] == _pixels((0,))
  assert info.list_pixels["train"] == _pixels(range(5))
  with DatasetWriter(tmp_path / "e", name="d", classes=["a", "b"], colors=[(0, 0, 0)] * 2) as w:
    for i in range(6):
      w.add(f"p{i}", image=np.zeros((5, 6, 3), np.uint8), label=_label(i) if i < 5 else None)
    w.lists(train=[f"p{i}" for i in range(6)], few=("p4", "p1"), more=("p5", "p0"))
  assert _files(root) == _files(tmp_path / "e")


@pytest.mark.parametrize(
  "lists, message",
  [
    ({"few": ("p1", "nobody", "p1")}, "'p1' 2 times(.|\n)*'nobody'"),
    ({"few": ()}, "'few' is empty"),
    ({"train": ("p1",)}, "'train' already"),
    ({"rest": ("p1",)}, "choose another name"),
    ({"good": ("p1",), "bad": ("x",)}, "'x'"),
  ],
)
def test_what_cannot_be_added_changes_nothing(root, lists, message):
  before = _files(root)
  with pytest.raises(DataError, match=message):
    dataset_lists.add_lists(root, lists)
  assert _files(root) == before


def test_overwrite(root):
  dataset_lists.add_lists(root, {"train": ("p2",)}, overwrite=True)
  info = Dataset.open(root).info
  assert info.lists["train"] == ("p2",) and info.list_pixels["train"] == _pixels((2,))


class _Killed(BaseException):
  pass


@pytest.mark.parametrize("moment", range(8))
def test_a_kill_at_any_moment_leaves_a_dataset_that_is_right(root, monkeypatch, moment):
  calls, replace = [], pathlib.Path.replace

  def die(self, target):
    calls.append(target)
    if len(calls) == moment // 2 + 1:
      if moment % 2:
        replace(self, target)
      raise _Killed
    return replace(self, target)

  with monkeypatch.context() as patch, pytest.raises(_Killed):
    patch.setattr(pathlib.Path, "replace", die)
    dataset_lists.add_lists(root, {"train": ("p2",), "few": ("p3",)}, overwrite=True)
  info = Dataset.open(root).info
  numbers = {(f"p{i}",): (i,) for i in range(6)} | {tuple(f"p{i}" for i in range(6)): range(5)}
  for name, ids in info.lists.items():  # each list there is has its own counts
    assert info.list_pixels[name] == _pixels(numbers[ids]), name
  assert "few" not in info.lists or info.lists["train"] == ("p2",)
  (root / "lists" / ".other.txt.partial-1").write_text("of a killed process")
  dataset_lists.add_lists(root, {"train": ("p2",), "few": ("p3",)}, overwrite=True)
  assert Dataset.open(root).info.lists["few"] == ("p3",)
  assert not [name for name in _files(root) if "partial" in name]


def test_processes_that_add_at_once_lose_nothing(root):
  names = [f"list_{i}" for i in range(8)]
  threads = [
    threading.Thread(target=dataset_lists.add_lists, args=(root, {name: (f"p{i % 6}",)}))
    for i, name in enumerate(names)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert set(names) <= Dataset.open(root).info.lists.keys()


def test_a_dataset_prepared_anew_meanwhile_is_left_alone(root, monkeypatch):
  count = dataset_lists.class_pixels

  def prepare_anew(*args):
    fields = json.loads((root / METADATA).read_text())
    (root / METADATA).write_text(json.dumps(fields | {"fingerprint": "0" * 64}))
    return count(*args)

  monkeypatch.setattr(dataset_lists, "class_pixels", prepare_anew)
  with pytest.raises(DataError, match="prepared anew"):
    dataset_lists.add_lists(root, {"few": ("p1",)})
  assert not (root / "lists" / "few.txt").exists()


def test_class_pixels_per_picture_decode_no_picture(root, monkeypatch):
  dataset = Dataset.open(root)
  monkeypatch.setattr(Record, "window", None)
  found = dataset_lists.class_pixels(dataset, ("p3", "p5", "p0"))
  np.testing.assert_array_equal(found, [_pixels((3,)), (0, 0, 0), _pixels((0,))])
  assert dataset_lists.class_pixels(dataset, ()).shape == (0, 3)


def test_who_comes_second_says_that_it_waits(root, capsys):
  adding = threading.Thread(target=dataset_lists.add_lists, args=(root, {"few": ("p1",)}))
  said = ""
  with files.locked(root / "lists" / ".lock", lambda: None):
    adding.start()
    while "waiting until it is done" not in said:
      time.sleep(0.01)
      said += capsys.readouterr().err
    assert "few" not in Dataset.open(root).info.lists
  adding.join()
  assert "few" in Dataset.open(root).info.lists
  assert f"Another process is adding lists to {root}" in said
  assert ".lock" not in str(_files(root))
