"""Files of no content: only names and places say what is a picture and what is a label."""

import os
import pathlib
import re
import unicodedata

import pytest

from data_prep.sources.folder_files import Naming
from data_prep.sources.folder_pairs import Folders, find_pairs
from semiseg_jax.errors import DataError

SUFFIX, PREFIX = Naming(suffix="_mask"), Naming(prefix="mask_")


def _make(root, names):
  for name in names.split():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


def _find(root, images="d", labels="d", **options):
  """(ids, id -> names of labels, lists, what is wrong, what was said)."""
  wrong, said = [], []
  labels = None if labels is None else str(root / labels)
  pairs = find_pairs(Folders(str(root / images), labels, **options), wrong, said.append)
  names = {
    id_: " ".join(str(mask.path.relative_to(root)) for mask in masks)
    for id_, masks in pairs.labels.items()
  }
  return " ".join(pairs.pictures), names, pairs.lists, "\n".join(wrong), "\n".join(said)


@pytest.mark.parametrize(
  "names,labels,options,expected",
  [
    ("d/a.jpg d/b.jpg d/a_mask.png", "d", {"label": SUFFIX}, "d/a_mask.png"),
    ("d/a.png d/b.png d/a_mask.png", "d", {"label": Naming(suffix="_mask.png")}, "d/a_mask.png"),
    ("d/a.jpg d/b.jpg d/mask_a.png", "d", {"label": PREFIX}, "d/mask_a.png"),
    (
      "d/img_a.jpg d/img_b.jpg d/a.png",
      "d",
      {"image": Naming(prefix="img_")},
      "d/a.png",
    ),
    (
      "d/a_sat.jpg d/b_sat.jpg d/a_mask.png",
      "d",
      {"image": Naming(suffix="_sat"), "label": SUFFIX},
      "d/a_mask.png",
    ),
    ("d/a.jpg d/b.jpg d/a.png", "d", {}, "d/a.png"),
    (
      "d/image_a.png d/image_b.png d/mask_a.png",
      "d",
      {"image": Naming("image_"), "label": PREFIX},
      "d/mask_a.png",
    ),
    ("d/a.tif d/b.tif d/a.png", "d", {"label": Naming(suffix=".png")}, "d/a.png"),
    ("d/a.png d/b.png d/a.npy", "d", {}, "d/a.npy"),
    ("d/a.png d/b.png d/masks/a.png", "d/masks", {}, "d/masks/a.png"),
    ("d/a.png d/b.png d/masks/a.png", "d", {}, "d/masks/a.png"),
    ("d/a.png d/b.png d/x/a_mask.png", "d/x", {"label": SUFFIX}, "d/x/a_mask.png"),
    ("d/a.png d/b.png d/x/a.png d/x/a_view.jpg", "d/x", {}, "d/x/a.png"),
    ("d/a.jpg d/b.jpg m/a.jpg.png", "m", {"label": Naming(suffix=".jpg.png")}, "m/a.jpg.png"),
    ("d/a.jpg d/b.jpg m/a.png m/a.jpg", "m", {}, "m/a.png"),
    ("d/a.jpg d/b.jpg m/a.jpg", "m", {}, "m/a.jpg"),
    ("d/a.jpg d/b.jpg m/a.GIF", "m", {}, "m/a.GIF"),
  ],
)
def test_a_label_is_no_picture(tmp_path, names, labels, options, expected):
  _make(tmp_path, names)
  ids, found, lists, wrong, _ = _find(tmp_path, labels=labels, **options)
  assert (ids, found, lists, wrong) == ("a b", {"a": expected}, {}, "")


def test_the_number_of_labels_among_the_pictures_is_said(tmp_path):
  _make(tmp_path, "d/a.jpg d/b.jpg d/a_mask.png d/b_mask.png")
  assert "2 files in" in _find(tmp_path, label=SUFFIX)[-1]


def test_pictures_below_the_labels(tmp_path):
  _make(tmp_path, "r/img/a.png r/img/b.png r/a.png")
  ids, found, _, wrong, _ = _find(tmp_path, "r/img", "r")
  assert (ids, found, wrong) == ("a b", {"a": "r/a.png"}, "")


def test_a_link_to_the_labels_among_the_pictures(tmp_path):
  _make(tmp_path, "d/a.png d/b.png m/a.png")
  os.symlink(tmp_path / "m", tmp_path / "d/copy")
  ids, found, _, wrong, _ = _find(tmp_path, labels="m")
  assert (ids, found, wrong) == ("a b", {"a": "m/a.png"}, "")


@pytest.mark.parametrize(
  "names,option",
  [
    ("d/a.png d/a_mask.png", "--label_suffix=_mask would fit a_mask.png and a.png"),
    ("d/a.png d/mask_a.png", "--label_prefix=mask_ would fit mask_a.png and a.png"),
    ("d/a.png d/b.png", "--label_prefix$"),
    ("d/image_1.png d/mask_1.png", "--image_prefix=image_ --label_prefix=mask_ would fit"),
    ("d/1_sat.png d/1_mask.png", "--image_suffix=_sat --label_suffix=_mask would fit"),
    ("d/a.jpg d/a.png d/b.png d/b.npy", "--label_prefix$"),
  ],
)
def test_one_folder_whose_files_cannot_be_told_apart(tmp_path, names, option):
  _make(tmp_path, names)
  with pytest.raises(DataError, match=f"cannot be told apart.*{option}"):
    _find(tmp_path)


@pytest.mark.parametrize("labels", [None, "m"])
@pytest.mark.parametrize(
  "names,message",
  [
    ("d/a.jpg d/a_mask.png", "names of masks.*a_mask.png.*--label_suffix=_mask"),
    ("d/a.jpg d/gt_a.png", "names of masks.*gt_a.png.*--label_prefix=gt_"),
    ("d/a.jpg d/masks/x.png", "folder of masks.*masks/x.png.*--labels .*d/masks"),
    ("d/a.jpg d/masks/a.png", "folder of masks"),
  ],
)
def test_files_that_look_like_masks_are_no_pictures_without_a_word(
  tmp_path, names, message, labels
):
  _make(tmp_path, f"{names} m/a.png")
  wrong = _find(tmp_path, labels=labels)[3]
  assert re.search(message, wrong) and "--all_pictures" in wrong
  assert "of masks" not in _find(tmp_path, labels=labels, all_pictures=True)[3]


@pytest.mark.parametrize(
  "names",
  [
    "d/train/1.png d/val/1.png m/train/1.png m/val/1.png",
    "d/train/1.png d/valid/1.png m/train/1.png m/valid/1.png",
    "d/train/images/1.png d/val/images/1.png m/train/masks/1.png m/val/masks/1.png",
    "d/images/train/1.png d/images/val/1.png m/labels/train/1.png m/labels/val/1.png",
  ],
)
def test_equal_names_and_lists_by_folders(tmp_path, names):
  _make(tmp_path, names)
  ids, found, lists, wrong, said = _find(tmp_path, labels="m")
  first, second = ids.split()
  assert first == "train/1" and second in ("val/1", "valid/1") and not wrong
  assert found == {first: names.split()[2], second: names.split()[3]}
  assert lists == {"train": (first,), "val": (second,)}


def test_one_root_with_all_of_it(tmp_path):
  names = "d/train/images/1.png d/val/images/1.png d/train/masks/1.png d/val/masks/1.png"
  _make(tmp_path, names)
  ids, found, lists, wrong, _ = _find(tmp_path)
  assert ids == "train/1 val/1" and not wrong and set(lists) == {"train", "val"}
  assert found == {"train/1": names.split()[2], "val/1": names.split()[3]}


def test_unique_names_stay_ids_and_find_their_labels_in_any_folder(tmp_path):
  _make(tmp_path, "d/train/1.png d/val/2.png m/x/1.png m/2.png")
  ids, found, lists, wrong, _ = _find(tmp_path, labels="m")
  assert (ids, found, wrong) == ("1 2", {"1": "m/x/1.png", "2": "m/2.png"}, "")
  assert lists == {"train": ("1",), "val": ("2",)}


def test_a_label_of_an_equal_name_elsewhere_is_nobodys(tmp_path):
  _make(tmp_path, "d/a/1.png d/b/1.png m/a/1.png m/1.png")
  _, found, _, wrong, _ = _find(tmp_path, labels="m")
  assert found == {"a/1": "m/a/1.png"} and "m/1.png has no picture" in wrong


def test_cases_in_folders_of_their_own(tmp_path):
  _make(tmp_path, "d/x/image.png d/x/mask.png d/y/image.png")
  ids, found, _, wrong, _ = _find(
    tmp_path, image=Naming(suffix="image"), label=Naming(suffix="mask")
  )
  assert (ids, found, wrong) == ("x y", {"x": "d/x/mask.png"}, "")


@pytest.mark.parametrize(
  "names,options",
  [
    ("d/a.jpg d/a_mask.png d/a_mask_1.png", {"label": SUFFIX}),
    ("d/a.jpg d/a_mask_1.png", {"label": SUFFIX}),
    ("d/a (1).jpg d/a (1)_mask.png d/a (1)_mask_1.png".replace(" (", "("), {"label": SUFFIX}),
    ("d/a.jpg m/a_1.png m/a_2.png", {"labels": "m"}),
    ("d/a.jpg m/a_mask.png m/a_mask_left.png", {"labels": "m", "label": SUFFIX}),
    ("d/a.jpg d/a_mask.png d/a_mask-old.png", {"label": SUFFIX}),
    ("d/a.jpg m/a.png m/a.npy", {"labels": "m"}),
    ("d/a.jpg m/x/a.png m/y/a.png", {"labels": "m"}),
    ("d/a.jpg d/mask_a.png d/mask_a_2.png", {"label": PREFIX}),
  ],
)
def test_several_masks_are_named_and_never_half_used(tmp_path, names, options):
  _make(tmp_path, names)
  ids, _, _, wrong, _ = _find(tmp_path, **options)
  labels = names.split()[1:]
  assert "several masks" in wrong and all(label in wrong for label in labels)
  assert "--merge_masks" in wrong and len(ids.split()) == 1
  _, found, _, wrong, _ = _find(tmp_path, **options, several=True)
  assert not wrong and sorted(found[ids].split()) == sorted(labels)


def test_a_numbered_mask_is_of_the_longest_name(tmp_path):
  _make(tmp_path, "d/a.jpg d/a_1.jpg m/a_1_2.png m/a_2.png")
  _, found, _, wrong, _ = _find(tmp_path, labels="m", several=True)
  assert (found, wrong) == ({"a": "m/a_2.png", "a_1": "m/a_1_2.png"}, "")


def test_numbered_pictures_beside_labels_of_another_kind(tmp_path):
  _make(tmp_path, "d/a.tif d/a_1.tif d/a.png d/a_1.png")
  ids, found, _, wrong, _ = _find(tmp_path, label=Naming(suffix=".png"))
  assert (ids, found, wrong) == ("a a_1", {"a": "d/a.png", "a_1": "d/a_1.png"}, "")


def test_a_word_that_goes_on_is_another_word(tmp_path):
  _make(tmp_path, "d/a.jpg d/a_maskara.jpg m/a_mask.png m/a_masked.png")
  ids, found, _, wrong, said = _find(tmp_path, labels="m", label=SUFFIX)
  assert (ids, found, wrong) == ("a a_maskara", {"a": "m/a_mask.png"}, "")
  assert "a_masked.png" in said


@pytest.mark.parametrize(
  "naming,name,expected",
  [
    (Naming(suffix="_mask.png"), "a_mask.PNG", "a"),
    (Naming(suffix="_mask.png"), "a_mask.tif", None),
    (Naming(suffix=".png"), "a.png", "a"),
    (Naming(suffix=".png"), "a.bmp", None),
    (Naming(suffix="_mask"), "a_mask.tif", "a"),
    (Naming("m_", "_x"), "m_a_x.tif", "a"),
    (Naming("m_", "_x"), "m_a.tif", None),
    (Naming("m_", "_x"), "m_x.tif", None),
    (Naming("mask"), "mask.tif", ""),
  ],
)
def test_what_names_have_around_the_id(naming, name, expected):
  assert naming.stem(pathlib.Path("d", name)) == expected


def test_masks_of_instances_in_the_folder_of_the_picture(tmp_path):
  _make(tmp_path, "d/a/images/a.png d/a/masks/x.png d/a/masks/y.png d/b/images/b.png")
  ids, found, _, wrong, _ = _find(tmp_path, several=True)
  assert (ids, found, wrong) == ("a b", {"a": "d/a/masks/x.png d/a/masks/y.png"}, "")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_letters_taken_apart(tmp_path, forms):
  picture, label = (unicodedata.normalize(form, "Zürich") for form in forms)
  _make(tmp_path, f"d/{picture}.jpg m/{label}_mäsk.png")
  suffix = unicodedata.normalize(forms[0], "_mäsk")
  ids, found, _, wrong, _ = _find(tmp_path, labels="m", label=Naming(suffix=suffix))
  assert ids == "Zürich" and len(found) == 1 and not wrong


@pytest.mark.parametrize(
  "label,option", [("a_seg", "--label_suffix=_seg "), ("x-a", "--label_prefix=x- ")]
)
def test_a_label_alone_proposes_the_option(tmp_path, label, option):
  _make(tmp_path, f"d/a.jpg m/{label}.png")
  wrong = _find(tmp_path, labels="m")[3]
  assert f"m/{label}.png has no picture" in wrong and f"set {option}" in wrong


def test_hidden_files_are_neither(tmp_path):
  _make(tmp_path, "d/a.jpg d/._a.jpg d/.DS_Store m/a.png m/._a.png")
  ids, found, _, wrong, said = _find(tmp_path, labels="m")
  assert (ids, found, wrong, said) == ("a", {"a": "m/a.png"}, "", "")


@pytest.mark.parametrize(
  "picture,label", [("0.jpg", "000.png"), ("img_010.jpg", "IMG-10.png"), ("a-1.jpg", "a_1.png")]
)
def test_a_name_that_differs_a_little_is_named(tmp_path, picture, label):
  _make(tmp_path, f"d/{picture} d/0_1.jpg m/{label}")
  _, found, _, wrong, _ = _find(tmp_path, "d", "m")
  assert not found and f"m/{label} has no picture" in wrong and f"; {picture} differs" in wrong


@pytest.mark.parametrize("several", [False, True])
def test_a_number_is_no_part_of_a_longer_one(tmp_path, several):
  _make(tmp_path, "d/1.jpg d/2.jpg m/1.png m/10.png")
  _, found, _, wrong, _ = _find(tmp_path, "d", "m", several=several)
  assert found == {"1": "m/1.png"} and "m/10.png has no picture" in wrong and "=0" not in wrong


def test_what_shows_a_mask_is_to_be_moved_away(tmp_path):
  _make(tmp_path, "d/a.jpg m/a.png m/a_overlay.png")
  wrong = _find(tmp_path, "d", "m")[3]
  assert "a.png is the mask of 'a' already: move this file away" in wrong
  _make(tmp_path, "d/a.jpg n/a_gt.png")
  assert "set --label_suffix=_gt if" in _find(tmp_path, "d", "n")[3]


@pytest.mark.parametrize(
  "names,option,said",
  [
    ("d/a.JPG d/a_MASK.PNG", {"label": SUFFIX}, "the first other file there is 'a_MASK.PNG'"),
    ("d/a.png d/y/a.png", {}, "--labels .*/d/y$"),
    ("d/a.png d/a.bmp", {}, r"--label_suffix \(such as _mask, or .bmp or .png\)"),
  ],
)
def test_what_tells_labels_apart_is_proposed(tmp_path, names, option, said):
  _make(tmp_path, names)
  with pytest.raises(DataError, match=said):
    _find(tmp_path, **option)


def test_the_suffix_that_is_proposed_is_taken(tmp_path):
  _make(tmp_path, "d/a.jpg m/a.jpg.png")
  assert "set --label_suffix=.jpg.png if" in _find(tmp_path, "d", "m")[3]
  assert _find(tmp_path, "d", "m", label=Naming(suffix=".jpg.png"))[1] == {"a": "m/a.jpg.png"}


def test_two_suffixes_are_proposed_where_all_pictures_have_one(tmp_path):
  _make(tmp_path, "d/a_left.png d/b_1_left.png m/b_1_gt.png")
  option = "--image_suffix=_left --label_suffix=_gt"
  assert (
    f"m/b_1_gt.png has no picture in {tmp_path}/d; set {option} if" in _find(tmp_path, "d", "m")[3]
  )
  naming = {"image": Naming(suffix="_left"), "label": Naming(suffix="_gt")}
  assert _find(tmp_path, "d", "m", **naming)[1] == {"b_1": "m/b_1_gt.png"}


def test_a_suffix_of_pictures_alone_is_proposed(tmp_path):
  _make(tmp_path, "d/a.ome.tif d/b.ome.tif m/a.png")
  assert "set --image_suffix=.ome if" in _find(tmp_path, "d", "m")[3]
  assert _find(tmp_path, "d", "m", image=Naming(suffix=".ome"))[1] == {"a": "m/a.png"}


@pytest.mark.parametrize("option", [{}, {"label": SUFFIX}])
def test_a_label_whose_name_several_pictures_have_is_said_to_be_so(tmp_path, option):
  label = "0_mask.png" if option else "0.png"
  _make(tmp_path, f"d/x/0.png d/y/0.png m/{label}")
  wrong = _find(tmp_path, "d", "m", **option)[3]
  assert "2 pictures have its name (x/0, y/0): put it into a folder" in wrong
  (tmp_path / "m/y").mkdir()
  (tmp_path / "m" / label).rename(tmp_path / "m/y" / label)
  assert _find(tmp_path, "d", "m", **option)[1] == {"y/0": f"m/y/{label}"}


def test_a_mask_in_a_folder_with_the_name_of_a_picture(tmp_path):
  _make(tmp_path, "d/a.png d/b.png m/a/mask.png m/b/mask.png")
  assert "a folder of its name, a: --merge_masks" in _find(tmp_path, "d", "m")[3]
  assert _find(tmp_path, "d", "m", several=True)[1] == {"a": "m/a/mask.png", "b": "m/b/mask.png"}


@pytest.mark.parametrize(
  "names,said",
  [
    ("a.jpg b.jpg a_vis.jpg b_vis.jpg", "2 pictures in .* with '_vis' behind, such as a_vis.jpg"),
    ("a.jpg b.jpg a_1.jpg b_1.jpg a_vis.jpg", "^$"),  # frames, and one alone
    ("cat.jpg cats.jpg dog.jpg dogs.jpg", "^$"),
  ],
)
def test_pictures_named_after_others_are_said(tmp_path, names, said):
  _make(tmp_path, " ".join(f"d/{name}" for name in names.split()))
  _, _, _, wrong, note = _find(tmp_path, "d", None)
  assert not wrong and re.search(said, note)
  assert _find(tmp_path, "d", None, all_pictures=True)[4] == ""


def test_a_file_is_no_folder(tmp_path):
  _make(tmp_path, "d.zip")
  with pytest.raises(DataError, match="d.zip is a file, not a folder of pictures; unpack it"):
    _find(tmp_path, "d.zip", None)


def test_masks_in_several_folders_have_the_one_that_is_meant(tmp_path):
  _make(tmp_path, "d/a.jpg m/class/a.png m/object/a.png")
  assert f"give one of their folders (--labels {tmp_path}/m/class)" in _find(tmp_path, "d", "m")[3]
