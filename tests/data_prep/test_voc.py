import io
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_prep import voc
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import DataError
from tests.layout_samples import layout_samples

REPOSITORY = pathlib.Path(__file__).parents[2]
TRAIN = ["2007_000032", "2007_000063"]
VAL = ["2007_000033", "2008_000001"]
MORE = ["2008_000002", "2009_000001"]  # of SBD, as are the first of TRAIN and of VAL
OTHER = "2010_000001"  # a picture without a label
ALL = [*TRAIN, *VAL, *MORE, OTHER]
SBD = [TRAIN[0], VAL[0], *MORE]
SIZE = (5, 22)


def _image(id_):
  pixels = np.random.default_rng(ALL.index(id_)).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "JPEG")
  return out.getvalue()


def _label(id_):
  """All classes and 255 in every row."""
  rng = np.random.default_rng([7, ALL.index(id_)])
  return np.array([rng.permutation([*range(21), 255]) for _ in range(5)], np.uint8)


def _sbd_label(id_):
  """Another one than the official, and without 255."""
  return ((_label(id_).astype(int) + 1) % 21).astype(np.uint8)


def _png(label, palette=False):
  picture, out = Image.fromarray(label), io.BytesIO()
  if palette:
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert picture.mode == "P"
  picture.save(out, "PNG")
  return out.getvalue()


def _mat(label):
  """As SBD's files: a struct GTcls with Boundaries, Segmentation and CategoriesPresent."""
  out, boundaries = io.BytesIO(), np.empty((20, 1), object)
  for i in range(20):
    boundaries[i, 0] = np.zeros((2, 2))
  fields = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": [[12]]}
  scipy.io.savemat(out, {"GTcls": fields}, do_compression=True)
  return out.getvalue()


def _official(root="VOCdevkit/VOC2012/"):
  files = {f"{root}JPEGImages/{id_}.jpg": _image(id_) for id_ in ALL}
  for name, ids in (("train", TRAIN), ("val", VAL), ("trainval", sorted(TRAIN + VAL))):
    files[f"{root}ImageSets/Segmentation/{name}.txt"] = "".join(f"{id_}\n" for id_ in ids).encode()
  for id_ in (*TRAIN, *VAL):
    files[f"{root}SegmentationClass/{id_}.png"] = _png(_label(id_), palette=True)
    files[f"{root}SegmentationObject/{id_}.png"] = _png(_sbd_label(id_), palette=True)
  return files | {f"{root}Annotations/{OTHER}.xml": b"<x/>"}


AUG = {f"SegmentationClassAug/{id_}.png": _png(_sbd_label(id_)) for id_ in (*TRAIN, *VAL, *MORE)}
MATS = {f"benchmark_RELEASE/dataset/cls/{id_}.mat": _mat(_sbd_label(id_)) for id_ in SBD}
BENCHMARK = (
  MATS
  | {f"benchmark_RELEASE/dataset/inst/{id_}.mat": b"GTinst" for id_ in SBD}
  | {f"benchmark_RELEASE/dataset/img/{id_}.jpg": _image(id_) for id_ in SBD}
)


def _unpack(folder, files):
  for name, data in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
  return folder


def _tar(path, files, mode="w"):
  with tarfile.open(path, mode) as archive:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return path


def _zip(path, files):
  with zipfile.ZipFile(path, "w") as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return path


@pytest.fixture
def tar(tmp_path):
  return _tar(tmp_path / "VOCtrainval_11-May-2012.tar", _official())


@pytest.fixture
def folder(tmp_path):
  """VOC2012 unpacked."""
  return _unpack(tmp_path / "VOC2012", _official(""))


def _prepare(out, source, **options):
  said = []
  voc.prepare(source, out / "out", say=said.append, **options)
  return Dataset.open(out / "out"), "\n".join(said)


def _fails(out, source, match, **options):
  with pytest.raises(DataError, match=match) as caught:
    _prepare(out, source, **options)
  assert not list(out.glob("*out*")), "something was left behind"
  return str(caught.value)


def _check(dataset, augmented):
  official = {*TRAIN, *VAL}
  assert dataset.info.ids == tuple(sorted(official | {*MORE} if augmented else official))
  assert dataset.info.lists["train"] == tuple(TRAIN) and dataset.info.lists["val"] == tuple(VAL)
  assert dataset.info.lists["trainval"] == tuple(sorted(TRAIN + VAL))
  if augmented:
    assert dataset.info.lists["train_aug"] == tuple(sorted(TRAIN + MORE))
  for index, id_ in enumerate(dataset.info.ids):
    expected = _label(id_) if id_ in official else _sbd_label(id_)
    np.testing.assert_array_equal(dataset.read(index).label, expected)
    assert _image(id_) in dataset.raw(index), "the bytes of the JPEG were not kept"


def test_the_official_classes():
  """The palette as the development kit computes it, bit by bit."""
  assert voc.CLASSES[0] == "background" and voc.CLASSES[15] == "person" and len(voc.CLASSES) == 21
  known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 12: (64, 0, 128), 15: (192, 128, 128)}
  known[20] = (0, 64, 128)
  assert {i: voc.COLORS[i] for i in known} == known and len(set(voc.COLORS)) == 21


def test_the_official_tar(tmp_path, tar):
  dataset, said = _prepare(tmp_path, tar)
  _check(dataset, augmented=False)
  assert "train_aug" not in dataset.info.lists and dataset.info.source_ignore_id == 255
  assert dataset.info.source_ids == tuple(range(21))
  assert "list train has 2 pictures, the published one 1,464" in said
  assert "list trainval has 4 pictures, the published one 2,913" in said


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_folders(tmp_path, place):
  _unpack(tmp_path / "in", _official())
  _unpack(tmp_path / "in/VOCdevkit/VOC2007", {"JPEGImages/000005.jpg": b"of another year"})
  _check(_prepare(tmp_path, tmp_path / "in" / place)[0], augmented=False)


def test_a_folder_that_holds_the_tar(tmp_path, tar):
  _check(_prepare(tmp_path, tar.parent)[0], augmented=False)


@pytest.mark.parametrize(
  "make",
  [
    lambda path: _zip(path / "a.zip", AUG | {"__MACOSX/SegmentationClassAug/._x.png": b"1"}),
    lambda path: _unpack(path / "a", AUG) / "SegmentationClassAug",
    lambda path: _tar(path / "a.tgz", AUG, "w:gz"),
    lambda path: _tar(path / "benchmark.tgz", BENCHMARK, "w:gz"),
    lambda path: _tar(path / "benchmark.tar", BENCHMARK),
    lambda path: _unpack(path / "a", BENCHMARK) / "benchmark_RELEASE",
    lambda path: _unpack(path / "a", BENCHMARK) / "benchmark_RELEASE/dataset/cls",
  ],
  ids=["zip", "folder", "tgz of PNGs", "SBD tgz", "SBD tar", "SBD folder", "folder of mats"],
)
def test_augmented_labels(tmp_path, tar, make):
  """An official label goes before an augmented one, and none of val is trained on."""
  dataset, said = _prepare(tmp_path, tar, augmented=make(tmp_path))
  _check(dataset, augmented=True)
  assert "list train_aug has 4 pictures, the published one 10,582" in said


def test_augmented_labels_inside_the_source(tmp_path, folder):
  _unpack(folder, AUG)
  dataset, said = _prepare(tmp_path, folder)
  _check(dataset, augmented=True)
  assert "augmented labels: those of SegmentationClassAug in the source" in said


def test_augmented_labels_stand_in_for_missing_official_ones(tmp_path, folder):
  for id_ in VAL:
    (folder / f"SegmentationClass/{id_}.png").unlink()
  zip_ = _zip(tmp_path / "a.zip", AUG)
  dataset, said = _prepare(tmp_path, folder, augmented=zip_)
  assert "NOTE: 2 official labels are not there" in said
  index = dataset.index(VAL[0])
  np.testing.assert_array_equal(dataset.read(index).label, _sbd_label(VAL[0]))
  mats = _tar(tmp_path / "b.tar", MATS)  # without borders
  text = _fails(tmp_path / "x", folder, "2 problems", augmented=mats)
  assert f"get SegmentationClass/{VAL[0]}.png again" in text


def test_merged_labels_in_the_official_folder(tmp_path, folder):
  """As some releases have them: all labels in SegmentationClass."""
  for id_ in MORE:
    (folder / f"SegmentationClass/{id_}.png").write_bytes(_png(_sbd_label(id_)))
  dataset, said = _prepare(tmp_path, folder)
  _check(dataset, augmented=False)
  assert "NOTE: SegmentationClass: 2 labels" in said and "--augmented" in said
  _check(
    _prepare(tmp_path / "x", folder, augmented=folder / "SegmentationClass")[0], augmented=True
  )


def test_the_bytes_do_not_depend_on_the_source_or_the_workers(tmp_path, tar, folder):
  aug = _zip(tmp_path / "a.zip", AUG)
  a = _prepare(tmp_path / "a", tar, augmented=aug)[0].info
  b = _prepare(tmp_path / "b", folder, augmented=aug, workers=2)[0].info
  assert a == b


@pytest.mark.parametrize(
  "data",
  [
    b"",
    b"MATLAB 5.0",
    _mat(_label(MORE[0]))[:200],
    _mat(_label(MORE[0]).astype(float)),
    _mat(np.zeros((2, 2, 2), np.uint8)),
    _mat("text"),
  ],
  ids=["empty", "text", "truncated", "float", "cube", "string"],
)
def test_broken_mats(tmp_path, tar, data):
  files = MATS | {f"benchmark_RELEASE/dataset/cls/{MORE[0]}.mat": data}
  text = _fails(tmp_path, tar, "1 problem ", augmented=_tar(tmp_path / "b.tar", files))
  assert f"cls/{MORE[0]}.mat: " in text


@pytest.mark.parametrize("what", [{"GTinst": {"Segmentation": [[1]]}}, {"GTcls": [[1]]}])
def test_mats_of_another_structure(tmp_path, tar, what):
  scipy.io.savemat(tmp_path / f"{MORE[0]}.mat", what)
  mats = _unpack(tmp_path / "cls", {f"{MORE[0]}.mat": (tmp_path / f"{MORE[0]}.mat").read_bytes()})
  _fails(tmp_path, tar, f"{MORE[0]}.mat: no label of SBD .*GTcls.Segmentation", augmented=mats)


def test_every_cut_of_a_mat_is_named():
  class Cut:
    name = where = "x.mat"

    def __init__(self, size):
      self.read = lambda: _MAT[:size]

  _MAT = _mat(_label(MORE[0]))
  for size in range(0, len(_MAT) - 8, 7):
    with pytest.raises(DataError, match="x.mat"):
      voc.read_label(Cut(size))


@pytest.mark.parametrize("value", [21, 220])
def test_values_outside_the_classes(tmp_path, folder, value):
  label = _label(TRAIN[0])
  label[0, :3] = value
  (folder / f"SegmentationClass/{TRAIN[0]}.png").write_bytes(_png(label))
  _fails(tmp_path, folder, rf"{TRAIN[0]}.png: {value} \(3 pixels\); VOC labels hold 0 to 20")


def test_colors_in_place_of_ids(tmp_path, folder):
  path = folder / f"SegmentationClass/{TRAIN[0]}.png"
  path.write_bytes(_png(np.zeros((*SIZE, 3), np.uint8)))
  _fails(tmp_path, folder, f"{TRAIN[0]}.png: a color picture")


def test_wrong_names_are_told_before_any_file_is_read(tmp_path, folder):
  (folder / f"JPEGImages/{VAL[0]}.jpg").unlink()
  (folder / f"SegmentationClass/{TRAIN[1]}.png").unlink()
  (folder / f"JPEGImages/{VAL[1]}.jpg").write_bytes(_image(VAL[1])[:300])
  text = _fails(tmp_path, folder, "^2 problems")
  assert text.count(f"'{VAL[0]}' on the lists has no JPEGImages/{VAL[0]}.jpg") == 1
  assert text.count(f"JPEGImages/{TRAIN[1]}.jpg has no label") == 1


def test_all_wrong_content_is_in_one_message(tmp_path, folder):
  (folder / f"JPEGImages/{VAL[1]}.jpg").write_bytes(_image(VAL[1])[:300])
  (folder / f"SegmentationClass/{TRAIN[0]}.png").write_bytes(_png(_label(TRAIN[0])[:4]))
  text = _fails(tmp_path, folder, "^2 problems")
  assert text.count(f"JPEGImages/{VAL[1]}.jpg: cannot be read") == 1
  assert text.count("22x4 pixels, its picture") == 1


def test_an_augmented_label_without_a_picture(tmp_path, folder):
  (folder / f"JPEGImages/{MORE[0]}.jpg").unlink()
  _fails(tmp_path, folder, f"has no JPEGImages/{MORE[0]}.jpg", augmented=_zip(tmp_path / "a", AUG))


def test_strict(tmp_path, tar):
  aug = _zip(tmp_path / "a.zip", AUG)
  text = _fails(tmp_path, tar, "4 problems", augmented=aug, strict=True)
  assert "list train_aug has 4 pictures, the published one 10,582" in text


def test_sources_of_another_kind(tmp_path, folder):
  _fails(tmp_path, folder / "SegmentationClass", "holds none; give the official tar")
  both = _unpack(tmp_path / "both", AUG | MATS)
  _fails(tmp_path, folder, "both PNGs and files cls", augmented=both)
  _fails(tmp_path, folder, "neither PNGs nor", augmented=folder / "ImageSets")
  _unpack(tmp_path / "twice/a", _official(""))
  _unpack(tmp_path / "twice/b", _official(""))
  _fails(tmp_path, tmp_path / "twice", "holds several: a/, b/")
  (folder / "ImageSets/Segmentation/val.txt").unlink()
  _fails(tmp_path, folder, "no ImageSets/Segmentation/val.txt")


def test_archives_that_are_refused(tmp_path, tar):
  _fails(
    tmp_path, tar, "is not to be trusted", augmented=_zip(tmp_path / "a.zip", {"../x.png": b"1"})
  )
  tar.write_bytes(tar.read_bytes()[:-15_000])
  _fails(tmp_path, tar, "truncated or damaged")


def test_the_samples(tmp_path):
  """The counts are those of the README beside the files."""
  expected = {
    "2007_004189": ((333, 500), {0: 145856, 12: 12154, 255: 8490}),
    "2007_006449": ((375, 500), {0: 132550, 2: 32954, 255: 21996}),
    "2008_002536": ((319, 500), {0: 129916, 12: 7321, 17: 13891, 255: 8372}),
  }
  source = layout_samples("VOC2012")
  dataset, _ = _prepare(tmp_path, source)
  assert dataset.info.ids == dataset.info.lists["val"] == tuple(expected)
  for index, (id_, (size, values)) in enumerate(expected.items()):
    example = dataset.read(index)
    counts = np.bincount(example.label.ravel(), minlength=256)
    assert example.size == size and {v: counts[v] for v in np.flatnonzero(counts)} == values
    assert (source / f"JPEGImages/{id_}.jpg").read_bytes() in dataset.raw(index)


def test_the_command(tmp_path, tar):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.voc", "--source", str(tar), "--workers", "2"),
      *("--augmented", str(_tar(tmp_path / "benchmark.tgz", BENCHMARK, "w:gz"))),
      *("--out", str(tmp_path / "out")),
    ],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "6 pictures of 3 channels, 6 with a label, 21 classes" in done.stdout
  _check(Dataset.open(tmp_path / "out"), augmented=True)
