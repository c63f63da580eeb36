"""The command that makes folds and hold-outs of a prepared data set."""

import shutil

import numpy as np
import pytest

from data_prep import splits
from semiseg_jax.data import splits as data_splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter

PATIENTS, PICTURES = 8, 5
RARE = {2, 6}  # patients with the rare class, in one picture each
UNLABELED = {"p0_4", "p2_4", "p7_4"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """Picture M of patient N is `pN_M`; class 2 is rare, class 3 is in one picture."""
  root = tmp_path_factory.mktemp("folds") / "d"
  image = np.zeros((4, 6, 3), np.uint8)
  classes = ("ground", "car", "rider", "sign")
  with DatasetWriter(root, name="d", classes=classes, colors=[(i, 0, 0) for i in range(4)]) as w:
    ids = [f"p{n}_{m}" for n in range(PATIENTS) for m in range(PICTURES)]
    for id_ in ids:
      label = np.zeros((4, 6), np.uint8)
      label[:2] = int(id_[-1]) % 2
      label[3, :2] = 2 * (int(id_[1]) in RARE and id_[-1] == "1")
      label[3, 4:] = 3 * (id_ == "p5_0")
      w.add(id_, image=image, label=None if id_ in UNLABELED else label)
    w.lists(train=ids, labeled=[id_ for id_ in ids if id_ not in UNLABELED])
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "d")


def _run(root, *arguments):
  splits.main([f"--dataset={root}", *map(str, arguments)])
  return Dataset.open(root).info.lists


def _patients(ids):
  return {id_[:2] for id_ in ids}


def test_folds_of_whole_groups(root, capsys):
  lists = _run(root, "--folds=4", r"--group=^p\d", "--add")
  held = [lists[f"fold_{i}_val"] for i in range(4)]
  assert sorted(sum(held, ())) == sorted(lists["labeled"])
  for i, val in enumerate(held):
    train, labeled = lists[f"fold_{i}_train"], lists[f"fold_{i}_labeled"]
    assert not _patients(val) & _patients(train) and len(_patients(val)) == 2
    assert set(labeled) == set(train) - UNLABELED and train == tuple(sorted(train))
    left_out = {id_ for id_ in UNLABELED if id_[:2] in _patients(val)}
    assert set(train) | set(val) | left_out == set(lists["train"])
  assert sum(any(id_[-1] == "1" and int(id_[1]) in RARE for id_ in val) for val in held) == 2
  said = capsys.readouterr().out
  names = ", ".join(sorted(_patients(held[0])))
  assert f"fold_0_val: {len(held[0])} of 40 pictures of 2 groups: {names}\n" in said
  assert "LACKS sign (1 picture shows it): nothing teaches it" in said
  assert "LACKS sign (1 picture shows it): no score says how well it is found" in said
  assert all(
    any(f"{group} in fold_{i}_val" in said for group in ("their groups are", "its group is"))
    == any(id_[:2] in _patients(val) for id_ in UNLABELED)
    for i, val in enumerate(held)
  )
  assert (
    f"NOTE  scores on {min(map(len, held))} pictures say little" in said and "on 10" not in said
  )
  split = data_splits.make_split(
    Dataset.open(root), "fold_1_labeled", "rest", "fold_1_train", sources=()
  )
  data_splits.check_held_out(split, data_splits.resolve(Dataset.open(root), "fold_1_val"))


def test_single_pictures_share_the_rare_class(root):
  lists = _run(root, "--of=labeled", "--folds=2", "--add", "cv")
  for i in range(2):
    val = lists[f"cv_{i}_val"]
    assert len(val) == [19, 18][i] and len({"p2_1", "p6_1"} & set(val)) == 1
    assert set(lists[f"cv_{i}_train"]) == set(lists["labeled"]) - set(val)
    assert f"cv_{i}_labeled" not in lists  # all of train


@pytest.mark.parametrize("rule", ["random", "stratified"])
def test_a_hold_out_follows_its_seed(root, rule, capsys):
  made = [
    _run(root, "--of=labeled", "--holdout=0.25", f"--rule={rule}", f"--seed={seed}", "--add", name)[
      f"{name}_val"
    ]
    for seed, name in ((1, "a"), (1, "b"), (2, "c"))
  ]
  assert made[0] == made[1] != made[2] and len(made[0]) == round(0.25 * 37)
  assert "--config.data.train=a_train --config.data.labeled=a_train" in capsys.readouterr().out


def test_files_of_folds(root, tmp_path):
  before = dict(Dataset.open(root).info.lists)
  assert _run(root, "--folds=2", "--of=labeled", f"--out={tmp_path / 'lists'}") == before
  files = sorted(path.name for path in (tmp_path / "lists").iterdir())
  assert files == [f"fold_{i}_{name}.txt" for i in range(2) for name in ("train", "val")]
  with pytest.raises(SystemExit, match="fold_0_train.txt.* exists"):
    _run(root, "--folds=2", "--of=labeled", f"--out={tmp_path / 'lists'}")


@pytest.mark.parametrize("rule", ["random", "stratified"])
def test_labeled_lists_of_whole_groups_are_nested(root, rule, capsys):
  group = r"--group=p(\d)"
  lists = _run(root, "--of=labeled", f"--rule={rule}", "--ratio", "4", "2", group, "--add")
  few, more = lists["labeled_1_4"], lists["labeled_1_2"]
  assert set(few) < set(more) and len(_patients(few)) == 2 and len(_patients(more)) == 4
  for ids in (few, more):
    assert not _patients(ids) & _patients(set(lists["labeled"]) - set(ids))
  said = capsys.readouterr().out
  assert f"holds     2 groups: {', '.join(sorted(id_[1] for id_ in set(few[::5])))}" in said


def test_stratified_sizes_are_exact(root):
  lists = _run(root, "--of=labeled", "--rule=stratified", "--count", "9", "37", "20", "--add")
  assert [len(lists[f"labeled_{n}"]) for n in (9, 20, 37)] == [9, 20, 37]
  assert set(lists["labeled_9"]) < set(lists["labeled_20"])
  assert len({"p2_1", "p6_1"} & set(lists["labeled_20"])) == 1


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("--folds=9", r"--group=^p\d"), "37 labeled pictures of 8 groups"),
    (("--folds=38",), "only 37 labeled pictures"),
    (("--holdout=1",), "a share between 0 and 1"),
    (("--holdout=0.99",), "leaves none to train"),
    (("--folds=2", "--group=x"), "'p0_0': finds no group"),
    (("--folds=2", "--add", "a/b"), "a/b"),
  ],
)
def test_what_cannot_be_divided_stores_nothing(root, arguments, message):
  before = dict(Dataset.open(root).info.lists)
  with pytest.raises(SystemExit, match=f"error: (.|\n)*{message}"):
    _run(root, *arguments, *(() if "--add" in arguments else ("--add",)))
  assert Dataset.open(root).info.lists == before


@pytest.mark.parametrize(
  "arguments",
  [
    ("--folds=1",),
    ("--folds=2", "--rule=every"),
    ("--folds=2", "--add", "a", "b"),
    ("--folds=2", "--order=list"),
    ("--folds=2", "--holdout=0.1"),
    ("--folds=2", "--seed=-1"),
    ("--ratio=2",),
    ("--ratio=2", "--rule=every", "--group=p"),
    ("--ratio=2", "--rule=class_balanced", "--seed=1"),
  ],
)
def test_wrong_options(root, arguments):
  with pytest.raises(SystemExit) as stop:
    _run(root, *arguments)
  assert stop.value.code == 2


@pytest.mark.parametrize("value,copies", [(1, True), (2, False)])
def test_copies_that_are_trained_on_are_said(tmp_path, capsys, value, copies):
  """Pictures a and b have equal labels; with `value` 1 they are equal, too."""
  with DatasetWriter(tmp_path / "d", name="d", classes=("x", "y"), colors=[(0, 0, 0)] * 2) as w:
    for number, (id_, gray) in enumerate((("a", 1), ("b", value), ("c", 1), ("d", 3))):
      label = np.zeros((4, 6), np.uint8)
      label.flat[: max(number, 1)] = 1
      w.add(id_, image=np.full((4, 6, 3), gray, np.uint8), label=label)
    w.lists(train=["a", "b", "c", "d"])
  _run(tmp_path / "d", "--folds=4")
  said = capsys.readouterr().out
  assert ("NOTE: 1 of fold_" in said) == copies
  assert ("_train: b = a;" in said) == copies and "c = " not in said
