import pathlib
import unicodedata

import pytest

from semiseg_jax.data import picture_files

PICTURES = ("a.jpg", "a_1.jpg", "b 2.png", "mask.png", "train_l.png")
MASKS = (
  *("a_mask.png", "a-mask.png", "a.mask.png", "a_MASK.tif", "a_masks_2.png", "a_mask (1).png"),
  *("a_gt.png", "a_label.png", "a_labelIds.png", "a_L.png", "a_seg.png", "a_segmentation.png"),
  *("a_ground_truth.png", "a_annotation.png", "a_color_mask.png", "a_color.png", "a_manual1.gif"),
  *("mask_a.png", "gt_a.png", "label-a.png", "a_1_mask.png", "b 2_mask.png"),
)


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_known_by_the_name_of_another_file(name):
  files = [pathlib.Path("d", other) for other in (*PICTURES, name)]
  other = "b 2.png" if name.startswith("b") else "a_1.jpg" if name.startswith("a_1_") else "a.jpg"
  expected = {pathlib.Path("d", name): pathlib.Path("d", other)}
  assert picture_files.masks_by_name(files) == expected


@pytest.mark.parametrize(
  "picture,mask",
  [
    ("image_001.png", "mask_001.png"),
    ("img001.jpg", "mask001.png"),
    ("1_sat.jpg", "1_mask.png"),
    ("1_rgb.png", "1_label.png"),
    ("frame-7.png", "gt-7.png"),
    ("7.png", "label7.png"),
  ],
)
def test_masks_of_pictures_that_are_named_so(picture, mask):
  files = [pathlib.Path("d", name) for name in (picture, mask, "b.jpg")]
  assert picture_files.masks_by_name(files) == {files[1]: files[0]}


def test_without_the_other_file_a_name_says_nothing():
  assert (
    picture_files.masks_by_name([pathlib.Path(name) for name in ("gas_mask.jpg", "b.jpg")]) == {}
  )
  assert picture_files.masks_by_name([pathlib.Path(name) for name in PICTURES]) == {}


@pytest.mark.parametrize(
  "name,expected",
  [
    *((name, True) for name in ("mask", "Masks", "labels", "annotations", "GT", "ground_truth")),
    *((name, True) for name in ("SegmentationClass", "SegmentationClassAug", "instance_masks")),
    *((name, False) for name in ("images", "train", "l", "photos", "masquerade", "unlabeled")),
  ],
)
def test_folders_of_masks(name, expected):
  assert picture_files.is_mask_folder(name) == expected


def test_hidden_files_and_those_of_systems_are_left_out(tmp_path):
  kept = ("a.jpg", "sub/b.jpg", "_x.jpg")
  hidden = (".a.jpg", "._b.jpg", ".git/c.jpg", "__MACOSX/d.jpg", "sub/@eaDir/e.jpg/f.jpg")
  for name in (*kept, *hidden):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  (tmp_path / "sub/up").symlink_to(tmp_path, target_is_directory=True)
  found = {str(path.relative_to(tmp_path)) for path in picture_files.files_under(tmp_path)}
  assert found == set(kept)


def test_names_in_one_form():
  apart = unicodedata.normalize("NFD", "Zürich")
  assert apart != "Zürich" and picture_files.one_form(apart) == "Zürich"
