import pathlib
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep import folder
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import DataError

REPOSITORY = pathlib.Path(__file__).parents[2]
NAMES = [f"p{i:02d}" for i in range(12)]
UNLABELED = NAMES[8:]


def _image(index, channels=3):
  rng = np.random.default_rng(index)
  return rng.integers(0, 256, (9, 11 + index % 2, channels), dtype=np.uint8).squeeze()


def _label(index):
  return np.random.default_rng(50 + index).integers(0, 3, (9, 11 + index % 2), dtype=np.uint8)


@pytest.fixture
def source(tmp_path):
  """Twelve pictures in two folders, labels of the first eight; id 2 is ignored."""
  for part in ("images/a", "images/b", "labels/a", "labels/b"):
    (tmp_path / part).mkdir(parents=True)
  for i, name in enumerate(NAMES):
    part = "ab"[i % 2]
    Image.fromarray(_image(i)).save(tmp_path / f"images/{part}/{name}.{'png' if i else 'jpg'}")
    if name not in UNLABELED:
      Image.fromarray(_label(i)).save(tmp_path / f"labels/{part}/{name}.png")
  (tmp_path / "classes.txt").write_text("road 1 1 1\nsky 2 2 2\nvoid 0 0 0\n")
  (tmp_path / "few.txt").write_text("p03\r\np01\r\n")
  (tmp_path / "val.txt").write_text("b/p05.png\n\na/p06.png")
  return tmp_path


def _options(source, **changes):
  return folder.Source(
    **{
      "images": str(source / "images"),
      "labels": str(source / "labels"),
      "ignore_id": 2,
      "classes": str(source / "classes.txt"),
    }
    | changes
  )


def _prepare(source, out="out", workers=0, **changes):
  said = []
  options = _options(source, **changes)
  info = folder.prepare(options, source / out, workers=workers, say=said.append)
  return Dataset.open(source / out), info, "\n".join(said)


def _fails(source, message, **changes):
  with pytest.raises(DataError, match=message) as caught:
    _prepare(source, **changes)
  left = {p.name for p in source.iterdir()} - {"images", "labels", "classes.txt"}
  assert not {name for name in left if "out" in name}, "something was left behind"
  return str(caught.value)


def test_pictures_labels_and_default_lists(source):
  dataset, info, said = _prepare(source)
  assert info.ids == tuple(NAMES) and info.name == "out" and info.classes == ("road", "sky")
  assert info.source_ignore_id == 2 and info.colors == ((1, 1, 1), (2, 2, 2))
  for i in range(1, 12):
    example = dataset.read(i)
    np.testing.assert_array_equal(example.image, _image(i))
    if NAMES[i] in UNLABELED:
      assert example.label is None
    else:
      np.testing.assert_array_equal(example.label, np.where(_label(i) == 2, 255, _label(i)))
  original = (source / "images/a/p00.jpg").read_bytes()
  assert original in dataset.raw(0)
  assert info.lists == {"train": tuple(NAMES), "labeled": tuple(NAMES[:8])}
  assert "12 pictures of 3 channels, 8 with a label" in said and "no validation list" in said


def test_given_lists(source):
  lists = {"labeled_1_4": str(source / "few.txt"), "val": str(source / "val.txt")}
  info = _prepare(source, lists=lists)[1]
  train = tuple(name for name in NAMES if name not in ("p05", "p06"))
  assert info.lists == {
    "labeled_1_4": ("p03", "p01"),
    "val": ("p05", "p06"),
    "train": train,
    "labeled": train[:6],
  }


def test_holdout_takes_labeled_pictures_on_no_other_list(source):
  info = _prepare(source, holdout=0.5, lists={"labeled_1_4": str(source / "few.txt")})[1]
  val = info.lists["val"]
  assert len(val) == 4 and set(val) <= set(NAMES[:8]) - {"p01", "p03"}
  assert info.lists["train"] == tuple(name for name in NAMES if name not in val)
  assert info.lists["labeled_1_4"] == ("p03", "p01")
  again = _prepare(source, "again", holdout=0.5, lists={"labeled_1_4": str(source / "few.txt")})[1]
  assert again.lists == info.lists


@pytest.mark.parametrize(
  "changes,message",
  [
    ({"holdout": 0.9, "lists": "few"}, "7 labeled pictures, but only 6"),
    ({"holdout": 1.5}, "between 0 and 1"),
    ({"holdout": 0.1, "lists": "val"}, "choose one"),
  ],
)
def test_holdout_that_cannot_be(source, changes, message):
  if "lists" in changes:
    changes = changes | {"lists": {changes["lists"]: str(source / f"{changes['lists']}.txt")}}
  _fails(source, message, **changes)


def test_pictures_for_evaluation_only(source):
  (source / "val.txt").write_text("\n".join(NAMES[:8]))
  for name in UNLABELED:
    next((source / "images").rglob(f"{name}.*")).unlink()
  _, info, said = _prepare(source, lists={"val": str(source / "val.txt")})
  assert set(info.lists) == {"val"} and "NOTE: there is no training list" in said


def test_no_labels_at_all(source):
  dataset, info, _ = _prepare(source, labels=None)
  assert not any(info.labeled) and info.lists == {"train": tuple(NAMES)}


def test_bytes_do_not_depend_on_the_run_or_the_workers(source):
  trees = []
  for out, workers in (("one", 0), ("two", 2)):
    _prepare(source, out, workers)
    files = sorted(p for p in (source / out).rglob("*") if p.is_file() and p.suffix != ".json")
    trees.append([(p.name, p.read_bytes()) for p in files])
  assert trees[0] == trees[1] and len(trees[0]) == 3


def test_broken_picture(source):
  path = source / "images/b/p03.png"
  path.write_bytes(path.read_bytes()[:150])
  _fails(source, "p03.png: cannot be read.*replace or remove")


def test_all_broken_files_are_listed_at_once(source):
  for name in ("b/p03.png", "a/p10.png"):
    (source / "images" / name).write_bytes(b"")
  text = _fails(source, "2 problems")
  assert "p03.png" in text and "p10.png" in text


def test_everything_wrong_is_in_one_message(source):
  (source / "images/a/p00.jpg").write_bytes(b"the first one")
  (source / "labels/a/p00.png").write_bytes(b"its label")
  (source / "images/b/p03.png").write_bytes(b"")
  for name in ("b/p01", "a/p02"):
    shutil.copy(source / f"images/{name}.png", source / f"images/{name}.bmp")
  shutil.copy(source / "labels/b/p05.png", source / "labels/a")
  for alone in ("x1", "x2"):
    (source / f"labels/{alone}.png").write_bytes(b"")
  (source / "few.txt").write_text("p01\nnobody\nnothing\np01\np02\np02\n")
  (source / "val.txt").write_text("p08\np09\n")
  lists = {"few": str(source / "few.txt"), "val": str(source / "val.txt")}
  lists["absent"] = str(source / "absent.txt")
  text = _fails(source, "^15 problems.*nothing was written", lists=lists)
  found = [
    *("images/a/p00.jpg: cannot", "labels/a/p00.png: cannot", "images/b/p03.png: cannot"),
    *(
      "id 'p01'",
      "id 'p02'",
      "picture 'p05' has several masks",
      "labels/x1.png has no",
      "labels/x2.png has no",
    ),
    *("line 2: 'nobody'", "line 3: 'nothing'", "'p01' 2 times", "'p02' 2 times"),
    *("'p08', which has no label", "'p09', which has no label", "absent.txt cannot be read"),
  ]
  assert [part for part in found if text.count(part) != 1] == []
  assert len(text.splitlines()) == 1 + len(found)


def test_a_long_message_ends_with_the_number_of_the_others(source):
  for i in range(25):
    (source / f"labels/alone{i:02d}.png").write_bytes(b"")
  lines = _fails(source, "25 problems").splitlines()
  assert len(lines) == 22 and "alone19" in lines[20] and lines[21] == "... and 5 more"


def test_nothing_but_broken_pictures(source):
  for path in list((source / "images").rglob("*.*")):
    path.write_bytes(b"")
  assert len(_fails(source, "12 problems").splitlines()) == 13


@pytest.mark.parametrize("name", ["rest", "all", "none", "stored"])
def test_names_that_a_config_gives_a_meaning(source, name):
  _fails(source, f"'{name}'.*choose another name", lists={name: str(source / "few.txt")})


@pytest.mark.parametrize("limits", [(5.0, 5.0), (9.0, 1.0), (float("nan"), 1.0)])
def test_value_range_that_cannot_be(source, limits):
  _fails(source, "--value_range.*LOW must be below HIGH", value_range=limits)


def test_holdout_that_leaves_nothing_to_train_with(source):
  for path in list((source / "labels").rglob("*.png")):
    if path.stem != "p02":
      path.unlink()
  _fails(source, "takes all 1 labeled picture and", holdout=0.1)


def test_a_place_that_cannot_be_written_to(source):
  (source / "file").write_text("no folder")
  with pytest.raises(SystemExit, match="error: cannot write to .*file/out.*another folder"):
    folder.main([*_command(source)[3:], "--out", str(source / "file/out")])


def test_label_of_another_size(source):
  Image.fromarray(_label(3)[:, :10]).save(source / "labels/b/p03.png")
  _fails(source, "labels/b/p03.png: 10x9 pixels, its picture .*p03.png 12x9")


def test_label_outside_the_classes(source):
  label = _label(3)
  label[0, :4] = 7
  Image.fromarray(label).save(source / "labels/b/p03.png")
  _fails(source, r"p03.png: 7 \(4 pixels\) outside the classes")


def test_palette_labels(source):
  picture = Image.fromarray(_label(3))
  picture.putpalette([1, 1, 1, 2, 2, 2, 7, 7, 7])
  picture.save(source / "labels/b/p03.png")
  dataset = _prepare(source)[0]
  expected = np.where(_label(3) == 2, 255, _label(3))
  np.testing.assert_array_equal(dataset.read(3).label, expected)


def test_color_labels(source):
  colors = np.array([[1, 1, 1], [2, 2, 2], [0, 0, 0]], np.uint8)
  for i, name in enumerate(NAMES[:8]):
    Image.fromarray(colors[_label(i)]).save(source / f"labels/{'ab'[i % 2]}/{name}.png")
  _fails(source, "p00.png: a color picture.*--label_colors")
  dataset = _prepare(source, label_colors=True)[0]
  expected = np.where(_label(3) == 2, 255, _label(3))
  np.testing.assert_array_equal(dataset.read(3).label, expected)
  shutil.rmtree(source / "out")
  (source / "classes.txt").write_text("road\nsky\nvoid\n")
  _fails(source, "gives no colors", label_colors=True)


def test_listed_id_without_a_file(source):
  (source / "few.txt").write_text("p01\nnobody\n")
  _fails(source, "few.txt, line 2: 'nobody' names no picture", lists={"x": str(source / "few.txt")})


@pytest.mark.parametrize("name", ["val", "labeled_1_2"])
def test_listed_id_without_a_label(source, name):
  (source / "few.txt").write_text("p01\np09\n")
  _fails(source, f"'{name}' .*'p09', which has no label", lists={name: str(source / "few.txt")})


@pytest.mark.parametrize(
  "copy,message",
  [
    ("images/a/p00.png", "id 'p00' stands for .* and for .*unique"),
    ("labels/b/p00.png", "picture 'p00' has several masks"),
  ],
)
def test_duplicate_id(source, copy, message):
  (source / copy).write_bytes(b"whatever")
  assert copy in _fails(source, message)


def test_equal_names_in_two_folders_are_told_apart(source):
  """The label of one of them is not that of the other."""
  Image.fromarray(_image(20)).save(source / "images/b/p02.png")
  dataset, info, said = _prepare(source, lists={"labeled_1_4": str(source / "few.txt")})
  assert "names repeat in several folders" in said
  expected = [*(f"{'ab'[i % 2]}/{name}" for i, name in enumerate(NAMES)), "b/p02"]
  assert info.ids == tuple(sorted(expected))
  labeled = {id_ for id_, flag in zip(info.ids, info.labeled) if flag}
  assert "a/p02" in labeled and "b/p02" not in labeled
  assert info.lists["labeled_1_4"] == ("b/p03", "b/p01")
  np.testing.assert_array_equal(dataset.read(dataset.index("b/p02")).image, _image(20))


def test_label_without_a_picture(source):
  shutil.copy(source / "labels/a/p00.png", source / "labels/a/p00_mask.png")
  _fails(source, "label .*p00_mask.png has no picture.*--label_suffix")


def test_suffixes_of_file_names(source):
  for path in list((source / "images").rglob("*.*")):
    path.rename(path.with_name(f"{path.stem}_rgb{path.suffix}"))
  for path in list((source / "labels").rglob("*.*")):
    shutil.copy(path, path.with_name(f"{path.stem}_color{path.suffix}"))
    path.rename(path.with_name(f"{path.stem}_ids{path.suffix}"))
  (source / "few.txt").write_text("images/b/p03_rgb.png labels/b/p03_ids.png\n")
  dataset, info, said = _prepare(
    source, image_suffix="_rgb", label_suffix="_ids", lists={"labeled_x": str(source / "few.txt")}
  )
  assert info.ids == tuple(NAMES) and sum(info.labeled) == 8
  assert info.lists["labeled_x"] == ("p03",)
  assert "NOTE: 8 files in" in said and "_color.png" in said


def test_other_files_are_left_out_loudly_and_hidden_ones_quietly(source):
  (source / "images/notes.txt").write_text("x")
  (source / "images/.hidden.png").write_text("x")
  said = _prepare(source)[2]
  assert "NOTE: 1 file in" in said and "notes.txt" in said


def test_links_in_a_circle(source):
  (source / "images/a/up").symlink_to(source / "images", target_is_directory=True)
  assert _prepare(source)[1].ids == tuple(NAMES)


@pytest.mark.parametrize("what", ["images", "labels"])
def test_missing_and_empty_folders(source, what):
  _fails(source, "does not exist", **{what: str(source / "nowhere")})
  (source / "empty").mkdir()
  _fails(
    source, f"no {'pictures' if what == 'images' else 'labels'} in", **{what: str(source / "empty")}
  )


def test_grayscale_and_mixed(source):
  for path in list((source / "images").rglob("*.*")):
    if path.stem != "p11":
      Image.open(path).convert("L").save(path)
  text = _fails(source, "p11.png: 3 channels instead of 1.*--channels")
  assert text.startswith("1 problem ")
  assert _prepare(source, channels=3)[1].channels == 3
  shutil.rmtree(source / "out")
  Image.open(source / "images/b/p11.png").convert("L").save(source / "images/b/p11.png")
  assert _prepare(source)[0].read(2).image.shape == (9, 11, 1)


@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_many_channels(source, suffix):
  shutil.rmtree(source / "images")
  (source / "images").mkdir()
  for i, name in enumerate(NAMES):
    image = _image(i, 5)
    if suffix == "npy":
      np.save(source / f"images/{name}.npy", image)
    else:
      bands = [Image.fromarray(band) for band in np.moveaxis(image, 2, 0)]
      bands[0].save(source / f"images/{name}.tif", save_all=True, append_images=bands[1:])
  dataset, info, _ = _prepare(source)
  assert info.channels == 5
  np.testing.assert_array_equal(dataset.read(7).image, _image(7, 5))


def test_sixteen_bit_pictures(source):
  for path in list((source / "images").rglob("*.*")):
    size = Image.open(path).size
    path.unlink()
    cv2.imwrite(str(path.with_suffix(".png")), np.full(size[::-1], 30000, np.uint16))
  _fails(source, "uint16.*--value_range")
  dataset = _prepare(source, value_range=(0, 60000))[0]
  assert dataset.info.channels == 1 and set(dataset.read(0).image.ravel()) == {128}


def test_absent_classes_are_said(source):
  (source / "classes.txt").write_text("road\nsky\nvoid\nunicorn\n")
  said = _prepare(source)[2]
  assert "no label in list labeled shows: unicorn" in said


def _command(source, *more):
  return [
    sys.executable,
    "-m",
    "data_prep.folder",
    "--images",
    str(source / "images"),
    "--labels",
    str(source / "labels"),
    "--classes",
    str(source / "classes.txt"),
    "--ignore_id",
    "2",
    "--out",
    str(source / "out"),
    *more,
  ]


def test_the_command(source):
  arguments = ("--list", f"labeled_1_4={source / 'few.txt'}", "--holdout", "0.25")
  done = subprocess.run(
    _command(source, *arguments), cwd=REPOSITORY, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "list labeled_1_4: 2 pictures" in done.stdout
  assert "preparing out 12/12" in done.stderr and "\r" not in done.stderr  # no terminal
  assert len(Dataset.open(source / "out").info.lists["val"]) == 2


def test_errors_of_the_command_are_short(source):
  (source / "images/b/p03.png").write_bytes(b"")
  with pytest.raises(SystemExit, match="error: 1 problem .*\n.*p03.png"):
    folder.main(_command(source)[3:])
  with pytest.raises(SystemExit) as caught:
    folder.main(_command(source, "--list", "few.txt")[3:])
  assert caught.value.code == 2


def test_pictures_that_are_evaluated_and_trained_on_are_told(source):
  (source / "train.txt").write_text("p01\np05\n")
  lists = {"train": str(source / "train.txt"), "val": str(source / "val.txt")}
  _fails(source, "1 picture is on the list 'train' and on 'val': 'p05'", lists=lists)
  shutil.copy(source / "images/b/p05.png", source / "images/b/p07.png")
  shutil.copy(source / "labels/b/p05.png", source / "labels/b/p07.png")
  _, _, said = _prepare(source, lists={"val": str(source / "val.txt")})
  assert re.search(
    "NOTE: 1 picture is on the list 'val', and byte for byte .*p05.png = .*p07", said
  )
