import io
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from data_prep import cityscapes
from data_prep.sources import pairs
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import make_split
from semiseg_jax.errors import DataError
from tests.layout_samples import layout_samples

REPOSITORY = pathlib.Path(__file__).parents[2]
# Label ids of the train ids 0 to 18, as handbooks print them.
LABEL_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
IDS = {
  "train": ["aachen_000001_000019", "aachen_000002_000019", "zurich_000000_000019"],
  "val": ["lindau_000000_000019"],
  "test": ["berlin_000000_000019"],
  "train_extra": ["bad-honnef_000000_000000", "troisdorf_000000_000071"],
}
ALL = [id_ for ids in IDS.values() for id_ in ids]
SIZE = (6, 34)


def _png(pixels):
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def _rng(id_, what):
  return np.random.default_rng([ALL.index(id_), what])


def _image(id_):
  return _rng(id_, 0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def _label_ids(id_, whose="gtFine"):
  """Every label id in every row."""
  rows = [_rng(id_, 1 + row + 10 * (whose == "gtCoarse")).permutation(34) for row in range(6)]
  return np.array(rows, np.uint8)


def _train_ids(id_, whose="gtFine"):
  out = np.full(SIZE, 255, np.uint8)
  for train_id, label_id in enumerate(LABEL_IDS):
    out[_label_ids(id_, whose) == label_id] = train_id
  return out


def _images(*splits):
  return {
    f"leftImg8bit/{split}/{id_.split('_')[0]}/{id_}_leftImg8bit.png": _png(_image(id_))
    for split in splits
    for id_ in IDS[split]
  } | {"license.txt": b"yours", "README": b"read"}


def _labels(whose, *splits):
  files = {}
  for split in splits:
    for id_ in IDS[split]:
      start = f"{whose}/{split}/{id_.split('_')[0]}/{id_}_{whose}"
      label = np.zeros(SIZE, np.uint8) if split == "test" else _label_ids(id_, whose)
      files[f"{start}_labelIds.png"] = _png(label)
      files[f"{start}_color.png"] = _png(np.zeros((*SIZE, 4), np.uint8))
      files[f"{start}_instanceIds.png"] = _png(label.astype(np.uint16) * 1000)
      files[f"{start}_polygons.json"] = b"{}"
  return files


OFFICIAL = {
  "leftImg8bit_trainvaltest": _images("train", "val", "test"),
  "gtFine_trainvaltest": _labels("gtFine", "train", "val", "test"),
  "leftImg8bit_trainextra": _images("train_extra"),
  "gtCoarse": _labels("gtCoarse", "train", "val", "train_extra"),
}
FINE = ("leftImg8bit_trainvaltest", "gtFine_trainvaltest")


def _unpack(folder, files):
  for name, data in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
  return folder


def _pack(path, files):
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return path


@pytest.fixture
def zips(tmp_path):
  """The folder with the four archives and one that is of no interest."""
  for name, files in OFFICIAL.items():
    _pack(tmp_path / f"zips/{name}.zip", files)
  (tmp_path / "zips/leftImg8bit_demoVideo.zip").write_bytes(b"half a download")
  return tmp_path / "zips"


@pytest.fixture
def folder(tmp_path):
  """The unpacked train, val and test sets, with fine labels."""
  return _unpack(tmp_path / "city", OFFICIAL[FINE[0]] | OFFICIAL[FINE[1]])


@pytest.fixture
def flat(tmp_path):
  """The layout of the CPS data release."""
  files = {"config_new/train.txt": b"/images/train/x.png\t/segmentation/train/x_gtFine.png\n"}
  for split in ("train", "val", "test"):
    for id_ in IDS[split]:
      files[f"images/{split}/{id_}.png"] = _png(_image(id_))
      files[f"segmentation/{split}/{id_}_gtFine.png"] = _png(_train_ids(id_))
  return _unpack(tmp_path / "flat", files)


def _prepare(out, *sources, **options):
  said = []
  cityscapes.prepare(sources, out / "out", say=said.append, **options)
  return Dataset.open(out / "out"), "\n".join(said)


def _fails(out, *sources, match, **options):
  with pytest.raises(DataError, match=match) as caught:
    _prepare(out, *sources, **options)
  assert not list(out.glob("*out*")), "something was left behind"
  return str(caught.value)


def _check(dataset, labels):
  """Checks pictures, and labels: split -> whose."""
  for split, ids in dataset.info.lists.items():
    assert list(ids) == IDS[split]
    for id_ in ids:
      example = dataset.read(dataset.index(id_))
      np.testing.assert_array_equal(example.image, _image(id_))
      if split in labels:
        np.testing.assert_array_equal(example.label, _train_ids(id_, labels[split]))
      else:
        assert example.label is None


def test_the_official_table():
  table = cityscapes.train_ids()
  assert [int(table[i]) for i in LABEL_IDS] == list(range(19))
  assert all(table[i] == 255 for i in set(range(34)) - set(LABEL_IDS))
  assert (table[34:] == -1).all() and len(table) == 256
  names = [name for _, name, _ in cityscapes.CLASSES]
  assert names[0] == "road" and names[13] == "car" and names[18] == "bicycle"
  colors = {name: color for _, name, color in cityscapes.CLASSES}
  assert colors["road"] == (128, 64, 128) and colors["bicycle"] == (119, 11, 32)
  assert len(set(colors.values())) == 19


def test_archives_given_one_by_one(tmp_path, zips):
  dataset, said = _prepare(tmp_path, *(zips / f"{name}.zip" for name in FINE))
  assert set(dataset.info.lists) == {"train", "val", "test"}
  assert dataset.info.source_ignore_id == 255 and dataset.info.channels == 3
  assert dataset.info.source_ids == tuple(LABEL_IDS)
  _check(dataset, {"train": "gtFine", "val": "gtFine"})
  assert "list train has 3 pictures, the published one 2,975" in said


@pytest.mark.parametrize(
  "labels,whose",
  [
    ("fine", {"train": "gtFine", "val": "gtFine"}),
    ("coarse", {"train": "gtCoarse", "val": "gtFine", "train_extra": "gtCoarse"}),
    ("fine+coarse", {"train": "gtFine", "val": "gtFine", "train_extra": "gtCoarse"}),
  ],
)
def test_a_folder_of_archives(tmp_path, zips, labels, whose):
  dataset, _ = _prepare(tmp_path, zips, labels=labels)
  assert set(dataset.info.lists) == set(IDS)
  _check(dataset, whose)


def test_extra_pictures_are_unlabeled_ones_of_a_run(tmp_path, zips):
  dataset, _ = _prepare(tmp_path, zips)
  split = make_split(dataset, "train", "train_extra", "train")
  assert list(split.unlabeled.ids) == IDS["train_extra"]


@pytest.mark.parametrize("inside", ["", "leftImg8bit_trainvaltest"])
def test_unpacked_folders(tmp_path, inside):
  _unpack(tmp_path / "city" / inside, OFFICIAL[FINE[0]])
  _unpack(tmp_path / "city", OFFICIAL[FINE[1]])
  _check(_prepare(tmp_path, tmp_path / "city")[0], {"train": "gtFine", "val": "gtFine"})


def test_inner_folders_as_sources(tmp_path, folder):
  dataset, _ = _prepare(tmp_path, folder / "leftImg8bit", folder / "gtFine")
  _check(dataset, {"train": "gtFine", "val": "gtFine"})


def test_archives_beside_what_was_unpacked_from_them(tmp_path, zips):
  _unpack(zips, OFFICIAL[FINE[0]])
  assert len(_prepare(tmp_path, zips)[0]) == len(ALL)
  (zips / next(iter(_images("train")))).write_bytes(_png(_image(ALL[0])[:4]))
  _fails(tmp_path / "x", zips, match=r"two files of one name")


def test_the_flat_layout(tmp_path, flat):
  _check(_prepare(tmp_path, flat)[0], {"train": "gtFine", "val": "gtFine"})


def test_the_bytes_do_not_depend_on_the_source_or_the_workers(tmp_path, zips, folder):
  a = _prepare(tmp_path / "a", *(zips / f"{name}.zip" for name in FINE))[0].info
  b = _prepare(tmp_path / "b", folder, workers=2)[0].info
  assert a == b


def test_train_ids_by_their_name(tmp_path, folder):
  """Used where there are no label ids; where both are, label ids are used."""
  first, second, third = IDS["train"]
  for id_ in (first, second):
    path = folder / f"gtFine/train/aachen/{id_}_gtFine_labelIds.png"
    path.with_name(f"{id_}_gtFine_labelTrainIds.png").write_bytes(_png(_train_ids(id_)))
  (folder / f"gtFine/train/aachen/{first}_gtFine_labelIds.png").unlink()
  path = folder / f"gtFine/train/aachen/{second}_gtFine_labelTrainIds.png"
  path.write_bytes(b"not looked at")
  _check(_prepare(tmp_path, folder)[0], {"train": "gtFine", "val": "gtFine"})


def _overwrite_label(folder, pixels, ending="labelIds"):
  path = folder / f"gtFine/train/zurich/{IDS['train'][2]}_gtFine_{ending}.png"
  path.write_bytes(_png(pixels))


def test_label_ids_under_the_name_of_train_ids(tmp_path, folder):
  path = folder / f"gtFine/train/zurich/{IDS['train'][2]}_gtFine_labelIds.png"
  path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
  text = _fails(tmp_path, folder, match="19 .6 pixels.*train ids are 0 to 18 and 255; these look")
  assert "labelTrainIds.png: " in text and "*_labelIds.png" in text


def test_train_ids_under_the_name_of_label_ids(tmp_path, folder):
  _overwrite_label(folder, _train_ids(IDS["train"][2]))
  _fails(tmp_path, folder, match=r"labelIds.png: 255 \(90 pixels\); a labelIds file holds 0 to 33")


def test_label_ids_in_the_flat_layout(tmp_path, flat):
  id_ = IDS["train"][1]
  (flat / f"segmentation/train/{id_}_gtFine.png").write_bytes(_png(_label_ids(id_)))
  _fails(tmp_path, flat, match=f"{id_}_gtFine.png: 19 .6 pixels.*these look like label ids")


@pytest.mark.parametrize("value", [34, 200, 255, 26001])
def test_unknown_ids(tmp_path, folder, value):
  label = _label_ids(IDS["train"][2]).astype(np.uint16 if value > 255 else np.uint8)
  label[0, :2] = value
  _overwrite_label(folder, label)
  _fails(tmp_path, folder, match=rf"labelIds.png: {value} \(2 pixels\); a labelIds file")


def test_colors_in_place_of_ids(tmp_path, folder):
  _overwrite_label(folder, np.zeros((*SIZE, 4), np.uint8))
  _fails(tmp_path, folder, match="labelIds.png: a color picture")


def test_labels_of_another_size_and_broken_files(tmp_path, folder):
  _overwrite_label(folder, _label_ids(IDS["train"][2])[:4])
  first = folder / f"leftImg8bit/train/aachen/{IDS['train'][0]}_leftImg8bit.png"
  first.write_bytes(first.read_bytes()[:80])
  text = _fails(tmp_path, folder, match="2 problems")
  assert "34x4 pixels, its picture" in text and "truncated" in text


def test_missing_labels(tmp_path, folder):
  (folder / f"gtFine/train/zurich/{IDS['train'][2]}_gtFine_labelIds.png").unlink()
  text = _fails(tmp_path, folder, match="1 problem ")
  assert IDS["train"][2] in text and text.count("has no gtFine") == 1


def test_no_labels_but_colors(tmp_path, folder):
  for path in list((folder / "gtFine").rglob("*_labelIds.png")):
    path.unlink()
  text = _fails(tmp_path, folder, match="none of 3 pictures of train has a gtFine label")
  assert "none of 1 picture of val" in text and "_color" in text


def test_a_missing_picture_is_named(tmp_path, folder):
  (folder / f"leftImg8bit/train/zurich/{IDS['train'][2]}_leftImg8bit.png").unlink()
  text = _fails(tmp_path, folder, match="1 problem ")
  assert f"{IDS['train'][2]}_gtFine_labelIds.png has no picture; add" in text


def test_labels_of_a_split_without_pictures_are_left_out_loudly(tmp_path, folder):
  shutil.rmtree(folder / "leftImg8bit/val")
  dataset, said = _prepare(tmp_path, folder)
  assert "val" not in dataset.info.lists
  assert "NOTE: there are labels but no pictures of val; these are left out" in said


def test_wrong_names_leave_a_killed_preparation_as_it_is(tmp_path, folder):
  partial = tmp_path / ".out.partial-0123456789abcdef"
  partial.mkdir()
  with pytest.raises(DataError, match="none of 3 pictures of train has a gtCoarse label"):
    _prepare(tmp_path, folder / "leftImg8bit", folder / "gtFine", labels="coarse")
  assert partial.exists()


def test_strict(tmp_path, folder):
  text = _fails(tmp_path, folder, match="list train has 3 pictures.*2,975", strict=True)
  assert "list val has 1" in text and "list test has 1" in text


def test_the_black_picture_of_train_extra(tmp_path, zips, monkeypatch):
  name = f"leftImg8bit/train_extra/troisdorf/{cityscapes.DEFECTIVE}_leftImg8bit.png"
  black = _pack(tmp_path / "black.zip", {name: _png(np.zeros(SIZE, np.uint8))})
  dataset, said = _prepare(tmp_path, zips, black)
  assert list(dataset.info.lists["train_extra"]) == IDS["train_extra"]
  assert f"NOTE: {cityscapes.DEFECTIVE} is left out" in said
  label = f"gtCoarse/train_extra/troisdorf/{cityscapes.DEFECTIVE}_gtCoarse_labelIds.png"
  alone = _pack(tmp_path / "alone.zip", {label: _png(np.zeros(SIZE, np.uint8))})
  monkeypatch.setattr(cityscapes, "COUNTS", {s: len(IDS[s]) + (s == "train_extra") for s in IDS})
  for sources in ((zips, black), (zips, black, alone), (zips, alone)):
    out = tmp_path / str(len(list(tmp_path.iterdir())))
    dataset, _ = _prepare(out, *sources, labels="coarse", strict=True)
    assert list(dataset.info.lists["train_extra"]) == IDS["train_extra"]
  mended = _pack(tmp_path / "mended.zip", {name: _png(_image(ALL[0]))})
  assert cityscapes.DEFECTIVE in _prepare(tmp_path / "x", zips, mended)[0].info.ids


def test_no_pictures_and_two_layouts(tmp_path, folder, flat):
  _fails(tmp_path, folder / "gtFine", match="no pictures in the sources")
  _fails(tmp_path, folder, flat, match="give one of them")


def test_archives_that_are_refused(tmp_path, zips):
  path = zips / "gtCoarse.zip"
  path.write_bytes(path.read_bytes()[:-400])
  _fails(tmp_path, zips, match="gtCoarse.zip: truncated or damaged")
  _pack(path, {"../gtCoarse/x.png": b"1"})
  assert "'../gtCoarse/x.png' lies outside" in _fails(tmp_path, zips, match="gtCoarse.zip is not")


def test_a_published_list_is_named(monkeypatch):
  monkeypatch.setattr(
    "semiseg_jax.data.known_lists.name_of", lambda ids: "set of two" if len(ids) == 2 else None
  )
  said = []
  assert pairs.check_counts({"a": ("1", "2"), "b": ("1",)}, {"a": 2}, True, said.append) == []
  assert said == ["list a is the published set of two"]


def test_the_sample():
  """The counts are those of the README beside the files."""
  source = layout_samples("cityscapes")
  found = cityscapes.list_members([source])
  read = [cityscapes.read_label(m) for m in found if m.name.endswith("Ids.png")]
  assert len(read) == 2
  np.testing.assert_array_equal(*read)
  counts = np.bincount(read[0].ravel(), minlength=256)
  expected = {255: 571, 0: 46475, 2: 222420, 8: 15940, 10: 278754, 13: 75840}
  assert {int(v): int(counts[v]) for v in np.flatnonzero(counts)} == expected


def test_the_command(tmp_path, zips):
  command = [sys.executable, "-m", "data_prep.cityscapes", "--source", str(zips), "--workers", "2"]
  done = subprocess.run(
    [*command, "--out", str(tmp_path / "out"), "--labels", "coarse"],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "7 pictures of 3 channels, 6 with a label, 19 classes" in done.stdout
  done = subprocess.run(
    [*command, "--out", str(tmp_path / "strict"), "--strict"],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and done.stderr.splitlines()[-5].startswith("error: 4 problems")
