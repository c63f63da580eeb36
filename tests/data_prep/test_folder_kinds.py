"""Own data as people have them on disk: they come out right, or an error says why."""

import re

import numpy as np
import pytest
from PIL import Image

from data_prep import folder
from semiseg_jax.data.dataset import Dataset

COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
COLORED = "ground 0 0 0\ncat 128 0 0\ndog 0 128 0\n"


def _picture(number):
  return np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def _ids(number, classes=3):
  return np.random.default_rng(90 + number).integers(0, classes, (6, 8), dtype=np.uint8)


def _save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def _palette(path, ids, order=(0, 1, 2), **options):
  """The colors of `ids`, by indices of another order."""
  path.parent.mkdir(parents=True, exist_ok=True)
  picture = Image.fromarray(np.argsort(order).astype(np.uint8)[ids])
  picture.putpalette(COLORS[list(order)].tobytes())
  picture.save(path, **options)


def _folder(root, save, *, names="abcd", classes="ground\ncat\ndog\n", kinds=3):
  """Pictures, of which all but the last have a label that `save` writes."""
  for number, name in enumerate(names):
    _save(root / f"images/{name}.jpg", _picture(number))
    if name != names[-1]:
      save(root / f"labels/{name}.png", _ids(number, kinds))
  (root / "classes.txt").write_text(classes)


def _prepare(root, *options, labels="labels"):
  folder.main(
    [
      *("--images", f"{root}/images", "--labels", f"{root}/{labels}"),
      *("--classes", f"{root}/classes.txt", "--out", f"{root}/out", "--workers", "0", *options),
    ]
  )
  return Dataset.open(root / "out")


def _check(dataset, kinds=3):
  """All labels are the ids that were drawn."""
  assert dataset.info.ids == tuple("abcd")
  for number in range(3):
    np.testing.assert_array_equal(dataset.read(number).label, _ids(number, kinds))
  assert dataset.read(3).label is None


def _fails(root, message, *options):
  with pytest.raises(SystemExit, match=message):
    _prepare(root, *options)
  assert not (root / "out").exists()


def _opaque(ids):
  return np.full_like(ids, 255)


AS_COLORS = {
  "RGB": lambda path, ids: _save(path, COLORS[ids]),
  "RGBA": lambda path, ids: _save(path, np.dstack([COLORS[ids], _opaque(ids)])),
  "palette": _palette,
  "palette of another order": lambda path, ids: _palette(path, ids, (2, 0, 1)),
  "palette, opaque": lambda path, ids: _palette(path, ids, transparency=77),
  "palette of its own": lambda path, ids: _palette(path, ids, np.roll(range(3), ord(path.stem))),
  "lossless WebP": lambda path, ids: _save(path, COLORS[ids], format="WEBP", lossless=True),
  "TIFF": lambda path, ids: _save(path.with_suffix(".tif"), COLORS[ids]),
  "GIF": lambda path, ids: _palette(path.with_suffix(".gif"), ids, (1, 2, 0)),
}


@pytest.mark.parametrize("kind", AS_COLORS)
def test_colors_mean_colors(tmp_path, kind):
  _folder(tmp_path, AS_COLORS[kind], classes=COLORED)
  _check(_prepare(tmp_path, "--label_colors"))


AS_GRAYS = {
  "gray": lambda path, ids: _save(path, ids * 255),
  "gray and alpha": lambda path, ids: _save(path, np.dstack([ids * 255, _opaque(ids)])),
  "one bit": lambda path, ids: _save(path, ids.astype(bool)),
  "three channels": lambda path, ids: _save(path, np.dstack([ids * 255] * 3)),
}


@pytest.mark.parametrize("kind", AS_GRAYS)
def test_black_and_white_mean_colors(tmp_path, kind):
  _folder(tmp_path, AS_GRAYS[kind], classes="ground 0 0 0\ncrack 255 255 255\n", kinds=2)
  _check(_prepare(tmp_path, "--label_colors"), kinds=2)


@pytest.mark.parametrize("classes", ["ground\ncrack\n", "ground 0 0 0\ncrack 255 255 255\n"])
@pytest.mark.parametrize("kind", ["gray", "gray and alpha", "three channels"])
def test_black_and_white_need_a_word(tmp_path, kind, classes):
  _folder(tmp_path, AS_GRAYS[kind], classes=classes, kinds=2)
  by_color = kind == "three channels" and "255" in classes
  _fails(tmp_path, "--label_colors" if by_color else "hold 0 and 255 only.*--label_values 0 255")
  if not by_color:
    _check(_prepare(tmp_path, "--label_values", "0", "255"), kinds=2)


AS_IDS = {
  "gray": _save,
  "palette": _palette,
  "a ramp of grays": lambda path, ids: _save(path, ids, bits=8),
  "three equal channels": lambda path, ids: _save(path, np.dstack([ids] * 3)),
}


@pytest.mark.parametrize("classes", [COLORED, "ground\ncat\ndog\n"])
@pytest.mark.parametrize("kind", AS_IDS)
def test_ids_without_a_word_on_colors(tmp_path, kind, classes):
  _folder(tmp_path, AS_IDS[kind], classes=classes)
  _check(_prepare(tmp_path))


def test_a_palette_that_contradicts_the_classes(tmp_path):
  _folder(tmp_path, lambda path, ids: _palette(path, ids, (2, 0, 1)), classes=COLORED)
  _fails(tmp_path, r"labels/a\.png: its palette gives index 0.*--label_colors")


def test_a_palette_that_changes(tmp_path):
  order = lambda path: (2, 0, 1) if path.stem == "b" else (0, 1, 2)
  _folder(tmp_path, lambda path, ids: _palette(path, ids, order(path)))
  _fails(tmp_path, r"labels/b\.png: the palette gives index 0.*labels/a\.png")


def test_transparent_pixels(tmp_path):
  alpha = lambda ids: np.where(ids == 0, 0, 255).astype(np.uint8)
  _folder(
    tmp_path, lambda path, ids: _save(path, np.dstack([COLORS[ids], alpha(ids)])), classes=COLORED
  )
  count = int((_ids(0) == 0).sum())
  _fails(tmp_path, rf"labels/a\.png: {count} transparent pixels", "--label_colors")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_one_lossy_label_among_others(tmp_path, suffix):
  _folder(tmp_path, _save)
  (tmp_path / "labels/b.png").unlink()
  _save(tmp_path / f"labels/b.{suffix}", _ids(1), format="JPEG")
  _fails(tmp_path, rf"1 problem .*\n.*labels/b\.{suffix}: labels must be lossless.* JPEG")


def test_values_in_the_order_of_the_classes(tmp_path):
  values = np.array([200, 0, 255], np.uint8)
  _folder(tmp_path, lambda path, ids: _save(path, values[ids]))
  dataset = _prepare(tmp_path, "--label_values", "200", "0", "255")
  _check(dataset)
  assert dataset.info.source_ignore_id is None and dataset.info.source_ids == (200, 0, 255)


def _two_indices(path, ids):
  path.parent.mkdir(parents=True, exist_ok=True)
  picture = Image.fromarray(ids)
  picture.putpalette([0, 0, 0, 255, 255, 255])
  picture.save(path)


SEEN = {
  "one bit": lambda path, ids: _save(path, ids.astype(bool)),
  "palette": _two_indices,
  "GIF": lambda path, ids: _save(path.with_suffix(".gif"), ids * 255),
}


@pytest.mark.parametrize("values", ["0 255", "0 1"])
@pytest.mark.parametrize("kind", SEEN)
def test_values_are_those_that_one_sees_or_those_that_are_stored(tmp_path, kind, values):
  _folder(tmp_path, SEEN[kind], classes="ground\ncrack\n", kinds=2)
  _check(_prepare(tmp_path, "--label_values", *values.split()), kinds=2)
  with pytest.raises(SystemExit, match="outside the classes"):
    _prepare(tmp_path, "--label_values", "0", "254", "--overwrite")


def test_labels_that_count_from_one(tmp_path):
  _folder(tmp_path, lambda path, ids: _save(path, ids + 1), kinds=2)
  _fails(tmp_path, "no label holds the id 0 .ground..*--first_id 1")
  _check(_prepare(tmp_path, "--first_id", "1"), kinds=2)
  dataset = _prepare(tmp_path, "--first_id", "0", "--overwrite")
  np.testing.assert_array_equal(dataset.read(0).label, _ids(0, 2) + 1)


def test_where_counting_starts_is_said(tmp_path, capsys):
  _folder(tmp_path, _save)
  _prepare(tmp_path)
  assert re.search("counts classes from 0: 0 = ground, 1 = cat", capsys.readouterr().out)


def test_ignored_pixels_of_minus_one(tmp_path):
  (tmp_path / "labels").mkdir()
  signed = lambda ids: ids.astype(np.int64) - 1
  _folder(tmp_path, lambda path, ids: np.save(path.with_suffix(".npy"), signed(ids)))
  label = _prepare(tmp_path, "--ignore_id", "-1").read(0).label
  np.testing.assert_array_equal(label, np.where(_ids(0) == 0, 255, _ids(0) - 1))


def test_a_single_class(tmp_path):
  _folder(tmp_path, lambda path, ids: _save(path, ids * 255), classes="crack\n", kinds=2)
  _fails(tmp_path, "1 class .crack.*'background'.*--label_values 0 255")


def test_classes_that_nobody_shows_and_few_pictures_are_said(tmp_path, capsys):
  _folder(tmp_path, _save, classes="ground\ncat\ndog\nunicorn\n", names="abcdefghijklmn")
  _prepare(tmp_path, "--holdout", "0.2")
  said = capsys.readouterr().out
  assert "NOTE: no label at all shows: unicorn" in said
  assert "NOTE: only 3 pictures in the list 'val'" in said


def test_lists_by_folders(tmp_path, capsys):
  for part in ("train", "val"):
    for number in range(3):
      _save(tmp_path / f"images/{part}/{number}.png", _picture(number))
      _save(tmp_path / f"labels/{part}/{number}.png", _ids(number))
  (tmp_path / "labels/val/2.png").unlink()
  (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n")
  with pytest.raises(SystemExit, match="folder of validation pictures.*--holdout"):
    _prepare(tmp_path, "--holdout", "0.4")
  dataset = _prepare(tmp_path)
  train = ("train/0", "train/1", "train/2")
  assert dataset.info.lists == {"train": train, "labeled": train, "val": ("val/0", "val/1")}
  np.testing.assert_array_equal(dataset.read(dataset.index("val/1")).label, _ids(1))
  assert "folders make the lists train, val" in capsys.readouterr().out
  (tmp_path / "val.txt").write_text("train/1.png\n")
  dataset = _prepare(tmp_path, "--list", f"val={tmp_path}/val.txt", "--overwrite")
  assert dataset.info.lists["val"] == ("train/1",) and len(dataset.info.lists["train"]) == 5


def test_masks_of_instances_are_joined(tmp_path):
  _folder(tmp_path, _save, kinds=2, classes="ground\ncat\ndog\n")
  _save(tmp_path / "labels/a_2.png", _ids(7, 2))
  _fails(tmp_path, "picture 'a' has several masks.*labels/a.png, .*labels/a_2.png")
  dataset = _prepare(tmp_path, "--merge_masks")
  np.testing.assert_array_equal(dataset.read(0).label, _ids(0, 2) | _ids(7, 2))
  np.testing.assert_array_equal(dataset.read(1).label, _ids(1, 2))


@pytest.mark.parametrize("name", ["{0}_{1}.png", "{1}/{0}.png"])
def test_masks_of_classes_are_joined(tmp_path, name):
  (tmp_path / "labels").mkdir()

  def save(path, ids):
    for number, class_ in ((1, "cat"), (2, "dog")):
      _save(path.parent / name.format(path.stem, class_), (ids == number) * np.uint8(255))

  _folder(tmp_path, save)
  _check(_prepare(tmp_path, "--class_masks"))
  _save(tmp_path / "labels" / name.format("a", "cow"), _ids(0))
  with pytest.raises(SystemExit, match="neither its name nor its folder says its class"):
    _prepare(tmp_path, "--class_masks", "--overwrite")


def test_options_that_contradict(tmp_path):
  _folder(tmp_path, _save, classes=COLORED)
  _fails(tmp_path, "--label_colors and --class_masks", "--label_colors", "--class_masks")
  _fails(tmp_path, "--class_masks and --merge_masks", "--merge_masks", "--class_masks")


def test_groups_and_classes_of_what_is_held_out_are_said(tmp_path, capsys):
  """Only two of twelve patients show a dog; pictures of one patient never lie on two lists."""
  for number in range(36):
    patient = f"{number // 3:02d}"
    label = np.full((6, 8), 2 if number in (4, 31) else number % 2, np.uint8)
    _save(tmp_path / f"images/patient_{patient}_{number % 3}.png", _picture(number))
    if number % 3 < 2:
      _save(tmp_path / f"labels/patient_{patient}_{number % 3}.png", label)
  (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n")
  group = ("--group", r"patient_\d+", "--holdout", "0.5")
  lists = _prepare(tmp_path, *group, "--stratify").info.lists
  of = {name: {id_[:10] for id_ in lists[name]} for name in ("train", "val")}
  assert not of["train"] & of["val"] and len(of["train"] | of["val"]) == 12
  assert len({"patient_01_1", "patient_10_1"} & set(lists["val"])) == 1
  said = capsys.readouterr().out
  assert f"list val: {len(of['val'])} groups: {', '.join(sorted(of['val']))}" in said
  assert f"NOTE: {len(of['val'])} pictures without a label are on no list" in said
  with pytest.raises(SystemExit, match="--stratify says how pictures are held out"):
    _prepare(tmp_path, "--stratify", "--overwrite")
  _prepare(tmp_path, "--holdout", "0.03", "--overwrite")
  said = capsys.readouterr().out
  assert re.search("NOTE: the pictures held out by lot do not show .*dog; --stratify", said)


def test_a_pattern_of_groups_is_not_empty(tmp_path, capsys):
  """As of an unset variable: --group "$PATIENT"."""
  _folder(tmp_path, lambda path, ids: _save(path, ids))
  with pytest.raises(SystemExit):
    _prepare(tmp_path, "--holdout", "0.3", "--group", "")
  assert "--group '': an empty pattern groups nothing" in capsys.readouterr().err
