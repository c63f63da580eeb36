"""The command that makes splits: rules, table, storing."""

import pickle
import shutil

import numpy as np
import pytest

from data_prep import splits
from semiseg_jax.data import known_lists
from semiseg_jax.data import splits as data_splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError

CLASSES = ("ground", "car", "rider")
COUNT = 37


def _id(number):
  return f"2007_{number * 7919 % 10000:06d}"


def _label(number):
  label = np.zeros((4, 6), np.uint8)
  label[:2] = number % 2
  if number in (5, 20):
    label[3, :3] = 2
  label[2, 0] = 255
  return label


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("splits") / "voc"
  image = np.zeros((4, 6, 3), np.uint8)
  with DatasetWriter(root, name="voc", classes=CLASSES, colors=[(i, 0, 0) for i in range(3)]) as w:
    for i in range(COUNT):
      w.add(_id(i), image=image, label=_label(i))
    w.add("none", image=image)
    ids = [_id(i) for i in range(COUNT)]
    w.lists(train=[*ids, "none"], labeled=ids)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "voc")


def _run(root, *arguments):
  splits.main([f"--dataset={root}", "--of=labeled", *map(str, arguments)])


def _lists(root):
  return Dataset.open(root).info.lists


def test_every_goes_over_the_sorted_ids(root):
  _run(root, "--rule=every", "--ratio", "16", "8", "4", "2", "--add")
  ids, lists = sorted(_id(i) for i in range(COUNT)), _lists(root)
  for ratio in (16, 8, 4, 2):
    assert lists[f"labeled_1_{ratio}"] == tuple(ids[::ratio])
  found = data_splits.make_split(Dataset.open(root), "labeled_1_8", "rest", "labeled")
  assert sorted(found.labeled.ids + found.unlabeled.ids) == ids


def test_every_over_an_order(root, tmp_path, capsys):
  order = [_id(i) for i in np.random.default_rng(0).permutation(COUNT)]
  (tmp_path / "train.txt").write_text(
    "\n".join(f"/images/{id_}.png\t/segmentation/{id_}.png" for id_ in order)
  )
  out = str(tmp_path / "lists" / "few.txt")
  _run(root, "--rule=every", "--ratio=8", f"--order={tmp_path / 'train.txt'}", "--out", out)
  assert open(out).read() == "".join(f"{id_}\n" for id_ in order[::8])
  assert "labeled_1_8" not in _lists(root)
  _run(root, "--rule=every", "--ratio=8", "--order=list", "--add", "own")
  assert _lists(root)["own"] == tuple(_id(i) for i in range(0, COUNT, 8))


def test_first_of_a_pickled_order(root, tmp_path):
  order, ids = np.random.default_rng(3).permutation(COUNT), sorted(_id(i) for i in range(COUNT))
  (tmp_path / "split_0.pkl").write_bytes(pickle.dumps(order))
  pickled = f"--order={tmp_path / 'split_0.pkl'}"
  _run(root, "--rule=first", "--ratio", "8", "5", pickled, "--add", "few", "more")
  _run(root, "--rule=first", "--count", "3", pickled, "--add")
  lists = _lists(root)
  for name, size in (("few", 4), ("more", 7), ("labeled_3", 3)):  # rounded down, in their order
    assert lists[name] == tuple(ids[i] for i in order[:size])
  with pytest.raises(SystemExit, match="--ratio 38: .* only 37 pictures"):
    _run(root, "--rule=first", "--ratio=38", pickled, "--add")


def test_the_rule_gives_the_known_list(root, monkeypatch, capsys):
  """What VOC's 10,582 ids give under the reference's digest, with ids that can be had."""
  ids = sorted(_id(i) for i in range(COUNT))
  digest = known_lists.digest(ids[::4])
  monkeypatch.setitem(known_lists.KNOWN, digest, ("VOC 1/4 of somebody", known_lists.BOTH))
  _run(root, "--rule=every", "--ratio", "4", "2", "--add")
  said = capsys.readouterr().out
  assert f"sha256    {digest}\n  known as  VOC 1/4 of somebody" in said
  assert "known as  no published list" in said
  split = data_splits.make_split(Dataset.open(root), "labeled_1_4", "rest", "labeled")
  assert split.labeled.known == "VOC 1/4 of somebody"


def test_random_and_counts(root):
  _run(root, "--rule=random", "--count", "5", "11", "--seed=4", "--add", "a", "b")
  _run(root, "--rule=random", "--count=5", "--seed=5", "--add", "c")
  lists = _lists(root)
  assert len(lists["a"]) == 5 and len(lists["b"]) == 11 and set(lists["a"]) < set(lists["b"])
  assert lists["b"] == tuple(sorted(lists["b"])) and lists["a"] != lists["c"]
  _run(root, "--rule=random", "--count=5", "--seed=4", "--add", "again")
  assert _lists(root)["again"] == lists["a"]


def test_class_balanced_shows_the_rare_class(root, capsys):
  _run(root, "--rule=class_balanced", "--ratio", "16", "8", "--add")
  lists, rare = _lists(root), {_id(5), _id(20)}
  assert len(lists["labeled_1_16"]) == 3 and rare & set(lists["labeled_1_16"])
  assert set(lists["labeled_1_16"]) < set(lists["labeled_1_8"])
  said = capsys.readouterr().out
  assert "MISSING" not in said and "nested: labeled_1_16 in labeled_1_8" in said


def test_the_table(root, capsys):
  (root.parent / "list.txt").write_text("\n".join(_id(i) for i in (0, 1, 2, 3)))
  splits.main(
    [f"--dataset={root}", f"--of={root.parent / 'list.txt'}", "--rule=every", "--ratio=2"]
  )
  said = capsys.readouterr().out
  ids = sorted(_id(i) for i in (0, 1, 2, 3))[::2]
  cars = sum(_id(i) in ids for i in (1, 3))
  assert "labeled_1_2: 2 of 4 pictures" in said
  row = next(line.split() for line in said.splitlines() if line.strip().startswith("car"))
  # 23 labeled pixels a picture, 12 of them car in every other one
  expected = [cars, 50 * cars, 50, 100 * 12 * cars / 46, 100 * 24 / 92]
  np.testing.assert_allclose([float(x) for x in row[1:]], expected, atol=6e-3)
  assert "NOTE      no label at all shows: rider" in said and "nothing was stored" in said


def test_a_missing_class_is_told_loudly(root, capsys):
  _run(root, "--rule=random", "--count=2", "--seed=0")
  assert "MISSING   no picture of labeled_2 shows: " in capsys.readouterr().out


def test_ratios_that_do_not_nest_are_told(root, capsys):
  _run(root, "--rule=every", "--ratio", "3", "2")
  assert "NOTE: not nested, labeled_1_3 is not within labeled_1_2" in capsys.readouterr().out


REFUSED = [
  (("--rule=every", "--count=5"), "give --ratio"),
  (("--rule=random", "--count=38"), "has 37 pictures"),
  (("--of=train", "--rule=every", "--ratio=2"), "'none' has no label"),
  (("--of=nobody", "--rule=every", "--ratio=2"), "neither a list"),
  (("--rule=every", "--ratio=2", "--add", "labeled"), "list 'labeled' exists"),
  (("--rule=every", "--ratio=2", "--add", "all"), "choose another name"),
  (("--rule=every", "--ratio=2", "--order", "SHORT"), f"'{_id(36)}' is not in"),
  (("--rule=every", "--ratio=2", "--order", "LONG"), "'none' of .* is not in it"),
  (("--rule=every", "--ratio=2", "--out", "SHORT"), "SHORT exists"),
  (("--matching=^2008", "--add"), "matches none of 37 pictures"),
  (("--matching=^2007", "--add"), "matches all of 37 pictures"),
  (("--matching=[", "--add"), "no regular expression"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_what_cannot_be_is_refused_and_stores_nothing(root, tmp_path, arguments, message):
  ids = [_id(i) for i in range(COUNT)]
  for name, members in {"SHORT": ids[:-1], "LONG": [*ids, "none"]}.items():
    (tmp_path / name).write_text("\n".join(members))
  before = _lists(root)
  with pytest.raises(SystemExit, match=f"error: (.|\n)*{message}"):
    _run(root, *(tmp_path / a if a in ("SHORT", "LONG") else a for a in arguments))
  assert _lists(root) == before


@pytest.mark.parametrize(
  "arguments",
  [
    ("--rule=every", "--ratio=0"),
    ("--rule=every", "--ratio", "2", "2"),
    ("--rule=every", "--ratio", "4", "2", "--add", "one"),
    ("--rule=every", "--ratio=2", "--seed=1"),
    ("--rule=random", "--ratio=2", "--seed=-1"),
    ("--rule=every",),
    ("--rule=every", "--ratio=2", "--count=3"),
    ("--rule=best", "--ratio=2"),
    ("--matching=1", "--ratio=2"),
    ("--matching=1", "--rule=random"),
    ("--matching=1", "--add", "one"),
    ("--matching=",),
  ],
)
def test_wrong_options(root, arguments):
  with pytest.raises(SystemExit) as stop:
    _run(root, *arguments)
  assert stop.value.code == 2


def test_pictures_that_match_are_held_out_and_the_others_trained_on(root, tmp_path):
  files = [tmp_path / "held.txt", tmp_path / "others.txt"]
  _run(root, "--of=train", "--matching=_00[0-4]", "--add", "--out", *files)
  ids, lists = _lists(root)["train"], _lists(root)
  held = tuple(id_ for id_ in ids if id_.startswith(tuple(f"2007_00{i}" for i in range(5))))
  assert 0 < len(held) < len(ids) - 1 and lists["held_out"] == held
  assert lists["train_rest"] == tuple(id_ for id_ in ids if id_ not in held)
  assert [tuple(file.read_text().split()) for file in files] == [held, lists["train_rest"]]


def test_ratios_of_what_is_not_held_out(root):
  _run(root, "--matching=_00[0-4]", "--add", "seen", "unseen")
  _run(root, "--of=unseen", "--rule=random", "--ratio", "8", "2", "--add")
  lists = _lists(root)
  assert set(lists["labeled_1_8"]) < set(lists["labeled_1_2"]) < set(lists["unseen"])
  assert not set(lists["labeled_1_2"]) & set(lists["seen"])


def test_overwrite(root):
  _run(root, "--rule=every", "--ratio=2", "--add", "few")
  _run(root, "--rule=every", "--ratio=4", "--add", "few", "--overwrite")
  info = Dataset.open(root).info
  assert len(info.lists["few"]) == 10 and sum(info.list_pixels["few"]) == 10 * 24


def test_an_order_needs_the_same_ids(root):
  choice = splits.Choice("labeled", "every", (2,), order="list")
  dataset = Dataset.open(root)
  assert splits.ordered_ids(dataset, choice) == dataset.info.lists["labeled"]
  with pytest.raises(DataError, match="missing.txt cannot be read"):
    splits.ordered_ids(dataset, splits.Choice("labeled", "every", (2,), order="missing.txt"))


@pytest.mark.parametrize("folds", ["0", "1", "-2"])
def test_numbers_of_folds_that_are_none(folds, capsys):
  with pytest.raises(SystemExit):
    splits.main(["--dataset", "x", "--folds", folds])
  assert f"error: --folds {folds}: give a number from 2 on." in capsys.readouterr().err
