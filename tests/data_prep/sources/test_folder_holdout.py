"""What is held out: whole groups, and each class in its share."""

import numpy as np
import pytest

from data_prep.sources.folder_files import Naming
from data_prep.sources.folder_holdout import HoldOut
from data_prep.sources.folder_lists import make_lists
from semiseg_jax.errors import DataError

IDS = [f"p{n}/{m}" for n in range(6) for m in range(4)]
UNLABELED = {"p1/3", "p4/3"}
LABELS = set(IDS) - UNLABELED
PATIENTS = HoldOut(0.3, r"^p\d")


def _make(hold_out, files=None, wrong=None, class_pixels=None):
  wrong = [] if wrong is None else wrong
  return make_lists(files or {}, hold_out, Naming("", ""), IDS, LABELS, wrong, {}, class_pixels)


def _patients(ids):
  return {id_[:2] for id_ in ids}


def test_groups_are_held_out_whole():
  lists = _make(PATIENTS)
  held = _patients(lists["val"])
  assert len(held) == 2 and not held & _patients(lists["train"])
  assert set(lists["val"]) == {id_ for id_ in LABELS if id_[:2] in held}
  assert set(lists["train"]) == {id_ for id_ in IDS if id_[:2] not in held}
  assert lists["labeled"] == tuple(id_ for id_ in lists["train"] if id_ in LABELS)
  assert _make(PATIENTS) == lists


def test_a_group_on_another_list_is_not_held_out(tmp_path):
  (tmp_path / "few.txt").write_text("p0/1\np2/0\np3/0\np5/2\n")
  lists = _make(HoldOut(0.25, r"^p\d"), {"labeled_few": str(tmp_path / "few.txt")})
  assert _patients(lists["val"]) == {"p1", "p4"} and not UNLABELED & set(lists["train"])
  (tmp_path / "test.txt").write_text("\n".join(IDS[:4]))
  lists = _make(PATIENTS, {"test": str(tmp_path / "test.txt")})
  assert not {"p0"} & (_patients(lists["val"]) | _patients(lists["train"]))


def test_classes_are_shared_out_once_they_are_counted():
  """Two pictures show the last class; without a look at labels, both stay or both go."""
  rare = ("p0/0", "p5/3")
  pixels = {id_: np.array([9, 3 * (id_ in rare), 0]) if id_ in LABELS else None for id_ in IDS}
  lists = _make(HoldOut(0.5, stratify=True), class_pixels=pixels)
  assert len(lists["val"]) == 11 and len(set(rare) & set(lists["val"])) == 1
  grouped = _make(HoldOut(0.5, r"p\d", stratify=True), class_pixels=pixels)
  assert len(set(rare) & set(grouped["val"])) == 1 and len(_patients(grouped["val"])) == 3
  plain = HoldOut(0.5)
  assert _make(plain, class_pixels=pixels) == _make(plain)  # counts alone change nothing


def test_the_lot_is_the_same_as_ever():
  """Of single pictures, as it is stored in data sets that were prepared before groups were."""
  lists = _make(HoldOut(0.2))
  labeled = [id_ for id_ in IDS if id_ in LABELS]
  drawn = np.random.default_rng(0).permutation(22)[:4]
  assert lists["val"] == tuple(labeled[i] for i in sorted(drawn))
  assert lists["train"] == tuple(id_ for id_ in IDS if id_ not in lists["val"])


def test_groups_on_several_lists_are_named(tmp_path):
  wrong = []
  (tmp_path / "val.txt").write_text("p0/0\np0/1\np1/0\np2/0\np2/1\np2/2\np2/3\n")
  _make(HoldOut(0, r"^(p\d)"), {"val": str(tmp_path / "val.txt")}, wrong)
  assert [line.split(":")[0] for line in wrong] == [
    "group 'p0' is on several lists",
    "group 'p1' is on several lists",
  ]
  assert "train (2 pictures) and val (2 pictures)" in wrong[0]


@pytest.mark.parametrize(
  "hold_out, message",
  [
    (HoldOut(0.0, r"p\d"), "there is only train; give --holdout"),
    (HoldOut(0.3, r"p[0-4]"), r"'p5/0': finds no group"),
    (HoldOut(0.3, "p"), r"22 labeled pictures of 1 group: p cannot be divided into 2"),
    (HoldOut(1.5, r"p\d"), "between 0 and 1"),
  ],
)
def test_what_cannot_be_held_out(hold_out, message):
  with pytest.raises(DataError, match=message):
    _make(hold_out)
