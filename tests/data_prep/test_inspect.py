"""What inspect says, draws and finds wrong."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep import inspect
from data_prep.shards import contact_sheet
from semiseg_jax import seals
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from tests.data_prep.shards.test_convert import REPOSITORY

CLASSES, COLORS = ("road", "sky", "unicorn"), ((200, 10, 10), (10, 200, 10), (10, 10, 200))


def _label(number):
  """Road above, sky below, `number` ignored pixels; 'p1' has sky only."""
  label = np.ones((30, 40), np.uint8)
  if number != 1:
    label[:15] = 0
  label[-1, :number] = 255
  return label


def _write(root, **options):
  with DatasetWriter(
    root, name="small", classes=CLASSES, colors=COLORS, shard_bytes=9000, **options
  ) as writer:
    for i in range(8):
      image = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
      writer.add(f"p{i}", image=image, label=_label(i) if i < 6 else None)
    writer.lists(train=[f"p{i}" for i in range(2, 8)], val=["p1"], bare=["p6"])
  return root


@pytest.fixture
def root(tmp_path):
  return _write(tmp_path / "d")


def _inspect(root, **options):
  said = []
  return inspect.inspect(root, say=said.append, **options), "\n".join(said)


def test_what_is_said(root):
  problems, text = _inspect(root)
  assert problems == [] and text.endswith("verified: all 8 records are whole")
  words = [line.split() for line in text.splitlines()]
  for line in (
    "pictures 8 of 3 channels, 6 with a label",
    "sizes 40x30 (8)",
    "train 6 4",
    "val 1 1 NOTE: few for an evaluation",
    "bare 1 0",
  ):
    assert line.split() in words
  labels = [_label(i) for i in range(6)]
  total = sum(label.size for label in labels)
  rows = {line[1]: line for line in words if len(line) > 3 and line[0] in ("0", "1", "2", "255")}
  for value, name in ((0, "road"), (1, "sky"), (2, "unicorn"), (255, "ignored")):
    count = sum(int((label == value).sum()) for label in labels)
    assert rows[name][:4] == [str(value), name, f"{count:,}", f"{count / total:.2%}"]
  assert " ".join(rows["road"][4:]).lstrip("# ") == "NOTE: in no label of val"
  assert " ".join(rows["unicorn"][4:]) == "NOTE: in no label at all"
  assert Dataset.open(root).info.fingerprint in text
  assert f"{len(list(root.glob('*.array_record')))} shards" in text


def test_workers_and_quick(root):
  assert _inspect(root, workers=2)[0] == []
  (root / "records-00000.array_record").write_bytes(
    bytes((root / "records-00000.array_record").stat().st_size)
  )
  problems, text = _inspect(root, quick=True)
  assert "verified" not in text.replace("not verified", "")
  assert len(problems) == 1 and "p0" in problems[0]  # the sheet needs it


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_records_and_shards_are_named(root, workers):
  """One record of the first shard is damaged, and all of the last one."""
  files = sorted(root.glob("*.array_record"))
  counts = [shard.records for shard in Dataset.open(root).shards]
  assert counts == [3, 3, 2]
  for file, places in ((files[0], [100]), (files[2], [-65535])):
    data = bytearray(file.read_bytes())
    for place in places:
      data[place] ^= 0xFF
    file.write_bytes(data)
  problems = _inspect(root, workers=workers)[0]
  assert len(problems) == 4
  assert problems[0].startswith("records-00000.array_record: not the bytes that were written")
  assert problems[1].startswith("records-00000.array_record, record 0 ('p0'): Corrupted")
  assert problems[2].startswith("records-00002.array_record: not the bytes that were written")
  assert problems[3] == "records-00002.array_record: none of its 2 records can be read"


@pytest.mark.parametrize(
  "change,expected",
  [
    ({"fingerprint": "0" * 64}, ["the fingerprint in the metadata is not that of the records"]),
    ({"class_pixels": [1, 2, 3, 4]}, ["the pixels of the classes in the metadata"]),
    ({"list_pixels": {"val": [1, 2, 3, 4]}}, ["the pixels of list 'val' in the metadata"]),
    ({"labeled": "11111110"}, ["records-00002.array_record, record 6 ('p6'): labeled False"]),
    (
      {"ids": ["p0", "x", *(f"p{i}" for i in range(2, 8))]},
      ["records-00000.array_record, record 1 ('x'): id 'p1', in the metadata 'x'"],
    ),
    (
      {"sizes": [[30, 40]] * 7 + [[31, 40]]},
      ["records-00002.array_record, record 7 ('p7'): size (30, 40), in the metadata (31, 40)"],
    ),
    (
      {"classes": ["road"], "colors": [[1, 1, 1]], "class_pixels": [1, 2]},
      [f"{place}: class ids [1] outside the 1 class" for place in ("p0", "p1", "p2", "p3", "p4")],
    ),
  ],
)
def test_what_metadata_get_wrong_is_named(root, change, expected):
  fields = json.loads((root / METADATA).read_text())
  (root / METADATA).write_text(json.dumps(seals.sealed(fields | change)))
  problems = _inspect(root)[0]
  assert len(problems) >= len(expected)
  for problem, start in zip(problems, expected):
    assert start.split(": ")[-1] in problem, problem
    assert start.split(": ")[0].split(", ")[-1].strip("()") in problem


def test_lists_that_name_others_are_wrong(root):
  (root / "lists/val.txt").write_text("p1\nnobody\n")
  (root / "lists/train.txt").write_text("p2\np2\n")
  problems = _inspect(root)[0]
  assert "list 'val' names 'nobody', which is not in the dataset" in problems
  assert "list 'train' names 'p2' more than once" in problems


def test_the_sheet_shows_pictures_labels_and_legend(root, tmp_path):
  _, text = _inspect(root)
  path = tmp_path / "d-contact.png"
  assert str(path) in text
  page = np.asarray(Image.open(path))
  counts = [int((page == color).all(-1).sum()) for color in COLORS]
  assert counts[1] > counts[0] > 50_000 and 50 < counts[2] < 300  # the unicorn's swatch only
  dataset = Dataset.open(root)
  inside = contact_sheet.draw(dataset, [1])
  height, width = inside.shape[:2]
  assert width < page.shape[1] / 2 and height < page.shape[0] / 2
  assert (inside == COLORS[1]).all(-1).sum() > 30_000  # its label is sky
  one_without = contact_sheet.draw(dataset, [7])
  assert max((one_without == color).all(-1).sum() for color in COLORS) < 300
  _inspect(root, sheet=tmp_path / "other/sheet.png", quick=True)
  assert np.array_equal(np.asarray(Image.open(tmp_path / "other/sheet.png")), page)


def test_a_sheet_that_cannot_be_written_hides_nothing(root, tmp_path):
  (tmp_path / "file").write_text("")
  problems, text = _inspect(root, sheet=tmp_path / "file/sheet.png")
  assert not problems and "NOTE: no sheet was drawn" in text and "--sheet" in text
  assert text.endswith("verified: all 8 records are whole")


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_sheets_of_other_channels_and_shapes(tmp_path, channels):
  with DatasetWriter(
    tmp_path / "d", name="x", classes=CLASSES, colors=COLORS, channels=channels
  ) as writer:
    for i, size in enumerate(((3, 400), (400, 3), (1, 1))):
      writer.add(f"{'long' * 40}{i}", image=np.full((*size, channels), 99, np.uint8))
  page = contact_sheet.draw(Dataset.open(tmp_path / "d"), [0, 1, 2])
  assert page.shape[1] < 1400 and (page == 99).all(-1).sum() > 1000
  assert _inspect(tmp_path / "d")[0] == []


def test_pictures_of_a_sheet_are_spread():
  assert contact_sheet.choose([True] * 5, 8) == [0, 1, 2, 3, 4]
  assert contact_sheet.choose([True] * 100, 3) == [0, 50, 99]
  chosen = contact_sheet.choose([True] * 40 + [False] * 4000, 24)
  assert len(chosen) == 24 == len(set(chosen)) and sum(index < 40 for index in chosen) == 18
  assert contact_sheet.choose([False] * 3 + [True], 24) == [0, 1, 2, 3]


def test_many_sizes_are_summed_up(root):
  dataset = Dataset.open(root)
  sizes = tuple((30 + i, 40 - i) for i in range(8))
  dataset.info = dataclasses.replace(dataset.info, sizes=sizes)
  text = "\n".join(inspect.describe(dataset))
  assert "40x30 (1), 39x31 (1)" in text
  assert "and 3 others; widths 33 to 40, heights 30 to 37" in text


@pytest.mark.slow
def test_the_command(root):
  command = [sys.executable, "-m", "data_prep.inspect", str(root)]
  done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
  assert done.returncode == 0 and "verified: all 8 records" in done.stdout
  assert "verifying 8/8" in done.stderr and "\r" not in done.stderr  # no terminal
  (root / "lists/val.txt").write_text("p1\nnobody\n")
  with pytest.raises(SystemExit, match="error: 2 problems with .*prepare it again:\nlist 'val'"):
    inspect.main([str(root), "--workers", "0"])
  with pytest.raises(SystemExit, match="error: .*nowhere does not exist; make it with"):
    inspect.main([str(root / "nowhere")])
