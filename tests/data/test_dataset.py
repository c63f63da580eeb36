import json
import pathlib
import pickle
import time

import numpy as np
import pytest

from semiseg_jax import seals
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.records import encode_record
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError

CLASSES = ("road", "sky", "car")
COLORS = ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def _image(seed, size=(6, 7)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _label(seed, size=(6, 7)):
  label = np.random.default_rng(100 + seed).integers(0, 2, size, dtype=np.uint8)
  label[0, 0] = 255
  return label


def _writer(root, **options):
  return DatasetWriter(root, name="small", classes=CLASSES, colors=COLORS, **options)


def _write(root, count=9, **options):
  with _writer(root, **options) as writer:
    for i in range(count):
      writer.add(f"p{i}", image=_image(i), label=_label(i) if i % 3 else None)
    writer.lists(train=[f"p{i}" for i in (4, 1, 2)], val=["p5", "p0"])
  return Dataset.open(root)


def _tree(root):
  return {
    str(p.relative_to(root)): p.read_bytes()
    for p in sorted(pathlib.Path(root).rglob("*"))
    if p.is_file()
  }


def test_what_is_written_is_read(tmp_path):
  dataset = _write(tmp_path / "d", shard_bytes=300)
  assert len(dataset) == 9 and len(list((tmp_path / "d").glob("*.array_record"))) > 2
  for i in (8, 0, 3, 4):
    example = dataset.read(i)
    assert example.id == f"p{i}" == dataset.info.ids[i] and dataset.index(f"p{i}") == i
    np.testing.assert_array_equal(example.image, _image(i))
    if i % 3:
      np.testing.assert_array_equal(example.label, _label(i))
    else:
      assert example.label is None
  assert dataset.raw(7) == encode_record("p7", _image(7), _label(7))


def test_info(tmp_path):
  info = _write(tmp_path / "d", source_ignore_id=11).info
  assert (info.name, info.classes, info.colors) == ("small", CLASSES, COLORS)
  assert info.source_ignore_id == 11 and info.channels == 3
  assert info.sizes == ((6, 7),) * 9 and info.labeled == (False, True, True) * 3
  assert info.lists == {"train": ("p4", "p1", "p2"), "val": ("p5", "p0")}

  def count(indices):
    pixels = np.concatenate([_label(i).ravel() for i in indices])
    return tuple(int((pixels == value).sum()) for value in (0, 1, 2, 255))

  assert info.class_pixels == count((1, 2, 4, 5, 7, 8)) and info.class_pixels[3] == 6
  assert info.list_pixels == {"train": count((4, 1, 2)), "val": count((5,))}


def test_equal_calls_give_equal_bytes(tmp_path):
  _write(tmp_path / "a", shard_bytes=300)
  _write(tmp_path / "b", shard_bytes=300)
  assert _tree(tmp_path / "a") == _tree(tmp_path / "b")


def test_fingerprint_follows_the_content(tmp_path):
  prints = {_write(tmp_path / "a").info.fingerprint, _write(tmp_path / "b", 8).info.fingerprint}
  with _writer(tmp_path / "c") as writer:
    for i in range(9):
      label = _label(i)
      label[1, 1] ^= 1
      writer.add(f"p{i}", image=_image(i), label=label if i % 3 else None)
  prints.add(Dataset.open(tmp_path / "c").info.fingerprint)
  assert len(prints) == 3
  assert _write(tmp_path / "e", shard_bytes=200).info.fingerprint in prints


def test_pickles_small_and_reads_on(tmp_path):
  dataset = _write(tmp_path / "d")
  dataset.read(0)
  data = pickle.dumps(dataset)
  assert len(data) < 4000
  np.testing.assert_array_equal(pickle.loads(data).read(8).image, _image(8))


def test_an_error_leaves_nothing(tmp_path):
  with pytest.raises(RuntimeError, match="stop"), _writer(tmp_path / "d") as writer:
    writer.add("a", image=_image(0))
    raise RuntimeError("stop")
  assert list(tmp_path.iterdir()) == []
  with pytest.raises(DataError, match="does not exist; make it with"):
    Dataset.open(tmp_path / "d")


def test_nothing_under_the_name_before_the_end(tmp_path):
  with _writer(tmp_path / "d") as writer:
    writer.add("a", image=_image(0))
    assert not (tmp_path / "d").exists()
    (partial,) = tmp_path.glob(".d.partial-*")
    with pytest.raises(DataError, match="no finished dataset"):
      Dataset.open(partial)
  assert Dataset.open(tmp_path / "d").info.ids == ("a",)


def test_overwrite_only_on_request_and_only_datasets(tmp_path):
  _write(tmp_path / "d")
  with pytest.raises(DataError, match="exists"):
    _writer(tmp_path / "d")
  assert len(_write(tmp_path / "d", 7, overwrite=True)) == 7
  with pytest.raises(RuntimeError), _writer(tmp_path / "d", overwrite=True) as writer:
    writer.add("a", image=_image(0))
    raise RuntimeError
  assert len(Dataset.open(tmp_path / "d")) == 7
  assert [p.name for p in tmp_path.iterdir()] == ["d"]
  (tmp_path / "home").mkdir()
  (tmp_path / "home" / "thesis.txt").write_text("years of work")
  with pytest.raises(DataError, match="no dataset"):
    _writer(tmp_path / "home", overwrite=True)


def test_two_writers_of_one_place(tmp_path):
  with pytest.raises(DataError, match="appeared"), _writer(tmp_path / "d") as late:
    late.add("late", image=_image(0))
    with _writer(tmp_path / "e") as early:
      early.add("early", image=_image(1))
    (tmp_path / "e").rename(tmp_path / "d")
  assert Dataset.open(tmp_path / "d").info.ids == ("early",)


@pytest.mark.parametrize(
  "add,message",
  [
    ({"id": "p1"}, "'p1' was added twice"),
    ({"id": "a\nb"}, "line"),
    ({"id": ""}, "line"),
    ({"image": np.zeros((6, 7, 1), np.uint8)}, "1 channel, the dataset 3"),
    ({"label": np.full((6, 7), 3, np.uint8)}, r"class ids \[3\].* 0 to 2"),
    ({"label": np.zeros((7, 6), np.uint8)}, "7, 6"),
  ],
)
def test_bad_pictures_are_errors(tmp_path, add, message):
  with pytest.raises(DataError, match=message), _writer(tmp_path / "d") as writer:
    writer.add("p1", image=_image(0))
    writer.add(**{"id": "new", "image": _image(1)} | add)
  assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
  "lists,message",
  [
    ({"train": ["p1", "nobody"]}, "'train' names 'nobody'"),
    ({"train": ["p1", "p1"]}, "'p1' 2 times"),
    ({"a/b": ["p1"]}, "list name"),
    ({"rest": ["p1"]}, "choose another name"),
  ],
)
def test_bad_lists_are_errors(tmp_path, lists, message):
  with pytest.raises(DataError, match=message), _writer(tmp_path / "d") as writer:
    writer.add("p1", image=_image(0))
    writer.lists(**lists)
  assert not (tmp_path / "d").exists()


def test_bad_class_lists_are_errors(tmp_path):
  with pytest.raises(DataError, match="2 colors for 3"):
    DatasetWriter(tmp_path / "d", name="x", classes=CLASSES, colors=COLORS[:2])
  with pytest.raises(DataError, match="occur twice"):
    DatasetWriter(tmp_path / "d", name="x", classes=("a", "a"), colors=COLORS[:2])
  with pytest.raises(DataError, match="no pictures"), _writer(tmp_path / "d"):
    pass


def _damage(path, how):
  data = bytearray(path.read_bytes())
  if how == "shorter":
    del data[len(data) // 2 :]
  elif how == "end":
    data[-65536:] = bytes(65536)
  else:
    data[{"flipped": len(data) // 2, "index": len(data) - 65535}[how]] ^= 0xFF
  path.write_bytes(data)


@pytest.mark.parametrize(
  "file,message",
  [
    ("records-00000.array_record", "d is damaged, prepare it again:\n.*{}: .* bytes instead of"),
    (METADATA, "{}: damaged .* again"),
  ],
)
def test_shortened_files_are_noticed_at_once(tmp_path, file, message):
  _write(tmp_path / "d")
  _damage(tmp_path / "d" / file, "shorter")
  with pytest.raises(DataError, match=message.format(file)):
    Dataset.open(tmp_path / "d")


def test_all_damaged_shards_are_named(tmp_path):
  _write(tmp_path / "d", shard_bytes=300)
  (tmp_path / "d/records-00001.array_record").unlink()
  (tmp_path / "d/records-00002.array_record").write_bytes(b"")
  with pytest.raises(DataError, match="00001.array_record: missing\n.*00002.array_record: 0 bytes"):
    Dataset.open(tmp_path / "d")


@pytest.mark.parametrize(
  "change,message",
  [
    ({"format": 1}, "format 1, this program reads 2; prepare the dataset again"),
    ({"ids": None}, "damaged .*prepare the dataset again"),
    ({"ids": ["p0"]}, r"damaged \(numbers of records \[1, 9\]\); prepare it again"),
    ({"shards": [{"file": "x"}]}, "damaged .*prepare the dataset again"),
  ],
)
def test_other_metadata_are_noticed_at_once(tmp_path, change, message):
  _write(tmp_path / "d")
  path = tmp_path / "d" / METADATA
  path.write_text(json.dumps(seals.sealed(json.loads(path.read_text()) | change)))
  with pytest.raises(DataError, match=f"{METADATA}: {message}"):
    Dataset.open(tmp_path / "d")
  path.write_text("[]")
  with pytest.raises(DataError, match=f"{METADATA}: damaged"):
    Dataset.open(tmp_path / "d")


@pytest.mark.parametrize("file", ["records-00000.array_record", "lists/val.txt"])
def test_missing_files_are_noticed_at_once(tmp_path, file):
  _write(tmp_path / "d")
  (tmp_path / "d" / file).unlink()
  with pytest.raises(DataError, match=f"{file}: missing"):
    Dataset.open(tmp_path / "d")


@pytest.mark.parametrize("how", ["flipped", "index", "end"])
def test_damaged_records_are_noticed_when_read(tmp_path, how):
  root = tmp_path / "d"
  with _writer(root) as writer:
    for i in range(20):
      writer.add(f"p{i}", image=_image(i, (90, 90)))
  dataset = Dataset.open(root)
  _damage(root / "records-00000.array_record", how)
  with pytest.raises(DataError, match="again"):
    for i in range(20):
      dataset.read(i)


def test_unknown_id_is_named(tmp_path):
  with pytest.raises(DataError, match="'nobody'"):
    _write(tmp_path / "d").index("nobody")


def test_opens_fast_with_many_ids(tmp_path):
  _write(tmp_path / "d")
  metadata = json.loads((tmp_path / "d" / METADATA).read_text())
  count = 30_000
  metadata |= {
    "ids": [f"city_{i:06d}_000019" for i in range(count)],
    "sizes": [[1024, 2048]] * count,
    "labeled": "1" * count,
  }
  metadata["shards"][0]["records"] = count
  (tmp_path / "d" / METADATA).write_text(json.dumps(seals.sealed(metadata)))
  start = time.process_time()
  dataset = Dataset.open(tmp_path / "d")
  assert dataset.index("city_029999_000019") == count - 1
  assert time.process_time() - start < 0.5
