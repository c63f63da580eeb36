"""Records, lists and metadata that are not those of the dataset are refused by name."""

import json
import random
import shutil

import numpy as np
import pytest

from data_prep.inspect import inspect
from semiseg_jax import seals
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.writing import dataset_lists
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.data.writing.shards import Encoder, Shard, ShardWriter
from semiseg_jax.errors import DataError
from tests import flip_bits

IDS = ("p0", "p1", "p2", "p3", "p4", "p5")
SIZE = (5, 6)


def _write(root, *, ids=IDS, seed=0, shard_bytes=1):
  """A dataset of one record a shard, all shards of one size."""
  options = {"name": "d", "classes": ["a", "b"], "colors": [(0, 0, 0), (9, 9, 9)], "codec": "raw"}
  with DatasetWriter(root, **options, shard_bytes=shard_bytes) as writer:
    for i, id_ in enumerate(ids):
      image = np.full((*SIZE, 3), 10 * seed + i, np.uint8)
      label = np.full(SIZE, (i + seed) % 2, np.uint8)
      writer.add(id_, image=image, label=label)
    writer.lists(train=ids[:4], val=ids[4:])
  return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return _write(tmp_path_factory.mktemp("made") / "d")


@pytest.fixture
def root(made, tmp_path):
  return shutil.copytree(made, tmp_path / "d")


def _shard(root, number):
  return root / f"records-{number:05d}.array_record"


def _exchange(root, one, two):
  a, b = _shard(root, one).read_bytes(), _shard(root, two).read_bytes()
  assert len(a) == len(b)
  _shard(root, one).write_bytes(b)
  _shard(root, two).write_bytes(a)


def _edit(root, change, *, seal=False, without=()):
  fields = json.loads((root / METADATA).read_text())
  change(fields)
  fields = seals.sealed(fields) if seal else fields
  (root / METADATA).write_text(json.dumps({k: v for k, v in fields.items() if k not in without}))


def _as_before(root):
  """As a version wrote it that sealed nothing."""

  def change(fields):
    for shard in fields["shards"]:
      del shard["head"]

  _edit(root, change, without=(seals.SEAL, "list_sha256"))


def test_exchanged_shards_are_named_when_the_dataset_is_opened(root):
  _exchange(root, 1, 3)
  with pytest.raises(DataError, match=r"00001.array_record: other(.|\n)*00003.array_record: other"):
    Dataset.open(root)
  problems = inspect(root, say=lambda line: None)
  assert any("record 1 ('p1'): id 'p3', in the metadata 'p1'" in line for line in problems)


def test_a_shard_of_another_dataset_with_the_same_ids_is_named(root, tmp_path):
  other = _write(tmp_path / "other", seed=1)
  shutil.copy(_shard(other, 2), _shard(root, 2))
  with pytest.raises(DataError, match="records-00002.array_record: other records than were"):
    Dataset.open(root)


@pytest.mark.parametrize(
  "change",
  [
    lambda f: f["ids"].reverse(),
    lambda f: f["classes"].reverse(),
    lambda f: (f["classes"].pop(), f["colors"].pop()),
    lambda f: f["shards"].reverse(),
    lambda f: f.update(labeled="011111"),
    lambda f: f["list_pixels"].pop("val"),
    lambda f: f["list_sha256"].update(val=f["list_sha256"]["train"]),
    lambda f: f.update(statistics={"mean": [0.5] * 3, "std": [0.1] * 3, "pictures": 4}),
    lambda f: f.pop("source_ids"),
  ],
)
def test_edited_metadata_are_refused(root, change):
  _edit(root, change)
  with pytest.raises(DataError, match=f"{METADATA}: its seal .*inspect .* says what is damaged"):
    Dataset.open(root)
  assert f"{METADATA}: {seals.OTHER}" in inspect(root, quick=True, say=lambda line: None)


def test_the_layout_of_the_file_is_free(root):
  text = (root / METADATA).read_text()
  (root / METADATA).write_text(json.dumps(json.loads(text), indent=3, sort_keys=True))
  assert Dataset.open(root).info.ids == IDS


def test_every_flipped_bit_of_the_metadata_changes_nothing_or_is_an_error(root):
  expected, content = Dataset.open(root), (root / METADATA).read_bytes()
  draw, held = random.Random(0), 0
  for place in draw.sample(range(len(content)), 250):
    damaged = bytearray(content)
    damaged[place] ^= 1 << draw.randrange(8)
    (root / METADATA).write_bytes(damaged)
    try:
      opened = Dataset.open(root)
    except DataError:
      held += 1
      continue
    assert (opened.info, opened.shards) == (expected.info, expected.shards), (place, damaged)
  assert held > 240  # the rest: the seal's own name


@pytest.mark.parametrize("ids", [("p1", "p0", "p2", "p3"), ("p0", "p1", "p2", "p5"), ("p0",)])
def test_an_edited_list_is_refused_where_it_is_used(root, ids):
  (root / "lists/train.txt").write_text("".join(f"{id_}\n" for id_ in ids))
  dataset = Dataset.open(root)
  with pytest.raises(DataError, match="'train' of .* is not as it was stored"):
    splits.resolve(dataset, "train")
  assert splits.resolve(dataset, "val").ids == IDS[4:]
  assert splits.resolve(dataset, str(root / "lists/train.txt")).ids == ids  # an own file, by path
  assert "list 'train' has other ids" in inspect(root, quick=True, say=lambda line: None)[0]


def test_lists_are_added_under_a_new_seal_and_an_edited_one_is_replaced(root):
  (root / "lists/train.txt").write_text("p1\n")
  dataset_lists.add_lists(root, {"few": ("p2", "p0")})
  dataset = Dataset.open(root)
  assert splits.resolve(dataset, "few").ids == ("p2", "p0")
  with pytest.raises(DataError, match="not as it was stored"):  # it was not sealed as it stands
    splits.resolve(dataset, "train")
  dataset_lists.add_lists(root, {"train": ("p1",)}, overwrite=True)
  assert splits.resolve(Dataset.open(root), "train").ids == ("p1",)
  assert inspect(root, say=lambda line: None) == []


def test_a_dataset_that_is_moved_and_copied_stays_sealed(root, tmp_path):
  root.rename(tmp_path / "elsewhere")
  assert Dataset.open(tmp_path / "elsewhere").read(3).id == "p3"


def test_a_dataset_without_a_seal_goes_on_and_its_records_are_compared(root):
  _as_before(root)
  assert Dataset.open(root).read(5).id == "p5"
  _exchange(root, 1, 3)
  dataset = Dataset.open(root)
  dataset.read(0)
  with pytest.raises(DataError, match=r"00001.array_record is not the one .*'p3' .* of 'p1'"):
    dataset.read(1)
  dataset_lists.add_lists(root, {"few": ("p2", "p0")})
  info = Dataset.open(root).info
  assert info.list_sha256.keys() == {"train", "val", "few"}


@pytest.mark.parametrize(
  "change, said",
  [
    (lambda f: f["ids"].reverse(), "'p0' .* in place of 'p5'"),
    (lambda f: f.update(labeled="011111"), "a label.* in place of .*no label"),
    (lambda f: f["sizes"].__setitem__(0, [7, 6]), "6x5.* in place of .*6x7"),
    (lambda f: f.update(channels=4), "3 channels.* in place of .*4 channels"),
  ],
)
def test_a_record_that_is_not_what_the_metadata_say_is_named_when_read(root, change, said):
  _edit(root, change, seal=True)
  with pytest.raises(DataError, match=f"record 0 of .*00000.array_record .*: .*{said}"):
    Dataset.open(root).record(0)


def test_a_whole_dataset_is_sealed_where_it_is_asked(root):
  _as_before(root)
  _edit(root, lambda f: f.update(name="renamed by hand"))
  said = []
  assert inspect(root, seal=True, say=said.append) == []
  assert any("sealed as it stands" in line for line in said)
  assert Dataset.open(root).info.name == "renamed by hand"
  _exchange(root, 1, 3)
  with pytest.raises(DataError, match="other records than were written"):
    Dataset.open(root)
  content = (root / METADATA).read_bytes()
  assert inspect(root, seal=True, say=said.append)[-1] == "so it was not sealed"
  assert (root / METADATA).read_bytes() == content


@pytest.mark.parametrize("change", [lambda f: f["classes"].reverse(), lambda f: f["ids"].reverse()])
def test_metadata_that_are_not_those_of_the_records_are_not_sealed(root, change):
  _edit(root, change)
  assert inspect(root, seal=True, say=lambda line: None)[-1] == "so it was not sealed"


def test_a_shard_whose_summary_was_damaged_is_written_again(tmp_path):
  path = tmp_path / "records-00000.array_record"
  writer = ShardWriter(path, "key")
  writer.append(Encoder(2, 3, "raw").encode("p0", np.ones((2, 3, 3), np.uint8), None))
  shard = writer.close()
  assert Shard.load(path, "key").entries[0].digest == shard.entries[0].digest
  summary = path.with_suffix(".json")
  text = summary.read_text()
  for old, new in (('"p0"', '"q0"'), ('"seal"', '"sea"'), (shard.entries[0].digest[:8], "0" * 8)):
    summary.write_text(text.replace(old, new))
    assert Shard.load(path, "key") is None


def test_no_damage_gives_a_run_other_records(tmp_path):
  source = flip_bits.write_dataset(tmp_path / "source")
  counts = flip_bits.attack(
    flip_bits.Target.of(source, "", flip_bits.read_records), 60, random.Random(0), tmp_path
  )
  assert {outcome for *_, outcome in counts} == {flip_bits.SAME, flip_bits.ERROR}
