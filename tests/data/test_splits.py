import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from semiseg_jax.data import known_lists, lists_of_cps, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError

IDS = ("2007_000032", "a b", "v1.5", "c", "d", "e")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  root = tmp_path_factory.mktemp("splits") / "d"
  image, label = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
  with DatasetWriter(root, name="small", classes=["x"], colors=[(0, 0, 0)]) as writer:
    for id_ in IDS:
      writer.add(id_, image=image, label=None if id_ == "e" else label)
    writer.lists(
      train=IDS[1:],
      labeled=("c", "a b"),
      val=IDS[:1],
      unlabeled_e=("e",),
      with_e=("c", "e"),
      overlapping=("d", "c"),
      nothing=(),
    )
  return Dataset.open(root)


@pytest.mark.parametrize(
  "text, message",
  [
    ("c\n", "list 'labeled' of .* is not as it was stored"),
    ("c\na b\nd\n", "list 'labeled' of .* is not as it was stored"),
    ("c\na b", r"labeled\.txt: its last line is cut off"),
    ("c\nM\xfcller\n", r"labeled\.txt: damaged .*utf-8"),
  ],
)
def test_a_stored_list_that_was_edited_or_cut_off(dataset, tmp_path, text, message):
  root = shutil.copytree(dataset.root, tmp_path / "d")
  (root / "lists/labeled.txt").write_bytes(text.encode("latin-1"))
  with pytest.raises(DataError, match=message):
    splits.resolve(Dataset.open(root), "labeled")


def test_stored_list(dataset):
  ids = splits.resolve(dataset, "labeled")
  assert ids.name == "labeled" and ids.ids == ("c", "a b")
  assert ids.sha256 == hashlib.sha256(b"c\na b\n").hexdigest()


@pytest.mark.parametrize(
  "text",
  [
    "c\n2007_000032\n",
    "c\r\n\r\n2007_000032",
    "\ufeffc\n 2007_000032 \n\n",
    "/images/train/c.png\t/labels/train/c_gtFine.png\n/x/2007_000032.jpg\t/y/2007_000032.png\n",
    "JPEGImages/c.jpg SegmentationClass/c.png\nJPEGImages/2007_000032.jpg Seg/2007_000032.png",
    "images\\c.png\nimages\\2007_000032.png",
  ],
)
def test_list_files_as_people_write_them(dataset, tmp_path, text):
  file = tmp_path / "list.txt"
  file.write_bytes(text.encode())
  ids = splits.resolve(dataset, str(file))
  assert ids.ids == ("c", "2007_000032") and ids.place == str(file)


def test_own_lists_of_one_name_are_told_apart_without_their_folders(tmp_path, dataset):
  named = []
  for folder, text in (("one", "c\n"), ("two", "c\n2007_000032\n")):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "few.txt").write_text(text)
    named.append(splits.resolve(dataset, str(tmp_path / folder / "few.txt")))
  names = [one.describe()["name"] for one in named]
  assert names == [f"few-{one.sha256[:8]}" for one in named] and len({*names}) == 2
  assert named[0].describe()["path"] == str(tmp_path / "one" / "few.txt")


def test_ids_with_blanks_and_dots_are_taken_as_they_stand(dataset, tmp_path):
  file = tmp_path / "list.txt"
  file.write_text("a b\nv1.5\n")
  assert splits.resolve(dataset, str(file)).ids == ("a b", "v1.5")


@pytest.mark.parametrize(
  "text,message",
  [
    ("c\nnobody\nx\n", "line 2: 'nobody'.*\n.*line 3: 'x'"),
    ("c\nd\nc.png\n", "'c' 2 times"),
    ("\n\n", "empty"),
  ],
)
def test_bad_list_files(dataset, tmp_path, text, message):
  file = tmp_path / "list.txt"
  file.write_text(text)
  with pytest.raises(DataError, match=message):
    splits.resolve(dataset, str(file))


def test_binary_list_file(dataset, tmp_path):
  (tmp_path / "x.png").write_bytes(b"\x89PNG\xff\xfe")
  with pytest.raises(DataError, match="cannot be read"):
    splits.resolve(dataset, str(tmp_path / "x.png"))


def test_unknown_list_shows_what_there_is(dataset):
  with pytest.raises(DataError, match="'labelled'.*labeled.*train"):
    splits.resolve(dataset, "labelled")
  with pytest.raises(DataError, match="'nothing' is empty"):
    splits.resolve(dataset, "nothing")


@pytest.mark.parametrize("spec,hint", [("val", True), ("labeled_1_8", False)])
def test_a_missing_validation_list_may_be_left_out(dataset, spec, hint):
  info = dataclasses.replace(dataset.info, lists={"train": IDS})
  with pytest.raises(DataError, match="neither") as caught:
    splits.resolve(Dataset(dataset.root, info, ()), spec)
  assert ("train without evaluation" in str(caught.value)) == hint


def test_rest_all_list_and_none(dataset):
  def unlabeled(spec):
    split = splits.make_split(dataset, "labeled", spec, "train")
    assert split.labeled.ids == ("c", "a b")
    return split.unlabeled.ids

  assert unlabeled("rest") == ("v1.5", "d", "e")
  assert unlabeled("all") == IDS[1:]
  assert unlabeled("unlabeled_e") == ("e",)
  assert unlabeled(None) == ()


def test_the_pictures_with_stored_targets(dataset):
  make = lambda stored: splits.make_split(dataset, "labeled", "stored", "train", stored=stored)
  assert make(("e", "v1.5")).unlabeled.ids == ("e", "v1.5")
  with pytest.raises(DataError, match="data.unlabeled='stored' .* no such targets"):
    make(None)


@pytest.mark.parametrize(
  "labeled,unlabeled,train,message",
  [
    ("with_e", "rest", "train", "'e' has no label"),
    ("labeled", "overlapping", "train", "'c' is in list"),
    ("val", "rest", "train", "'2007_000032' is not in the training list"),
    (
      "labeled",
      "rest",
      "labeled",
      "'labeled without labeled' is empty.*data.unlabeled=all.*name=su",
    ),
    ("labeled", "train", "train", "'train' of unlabeled .* all of 'labeled'.*data.unlabeled=all"),
    ("nothing", "rest", "train", "empty"),
  ],
)
def test_wrong_splits(dataset, labeled, unlabeled, train, message):
  with pytest.raises(DataError, match=message):
    splits.make_split(dataset, labeled, unlabeled, train)


def test_all_that_is_wrong_with_a_labeled_list_is_named(dataset, tmp_path):
  (tmp_path / "list.txt").write_text("e\n2007_000032\nc\n")
  with pytest.raises(DataError) as error:
    splits.make_split(dataset, str(tmp_path / "list.txt"), "rest", "labeled")
  _, *problems = str(error.value).splitlines()
  assert [line.split()[0] for line in problems] == ["'e'", "'e'", "'2007_000032'"]


def test_published_lists_are_named(dataset, monkeypatch):
  def known(ids, name):
    monkeypatch.setitem(known_lists.KNOWN, known_lists.digest(ids), (name, known_lists.BOTH))

  assert splits.resolve(dataset, "labeled").known is None
  known(("a b", "c"), "Labeled of the paper")
  known(IDS[1:], "Train of the paper")
  split = splits.make_split(dataset, "labeled", "rest", "train")
  assert split.labeled.known == "same ids as Labeled of the paper, other order"
  assert split.labeled.title == f"labeled: {split.labeled.known}"
  assert split.unlabeled.known == f"Train of the paper without {split.labeled.known}"
  assert splits.make_split(dataset, "labeled", "all", "train").unlabeled.known is not None
  assert split.labeled.describe() == {
    "name": "labeled",
    "ids": 2,
    "sha256": hashlib.sha256(b"c\na b\n").hexdigest(),
    "known_as": split.labeled.known,
  }


def test_a_list_is_known_by_what_it_leaves(dataset, monkeypatch):
  left = known_lists.digest(sorted({"v1.5", "d", "e"}))
  monkeypatch.setitem(known_lists.RESTS, left, "Classic")
  split = splits.make_split(dataset, "labeled", "rest", "train")
  assert split.labeled.known == "same ids as Classic, other order"
  assert split.unlabeled.known == "VOC train_aug without Classic"


def test_pairs_that_were_published_sharing_pictures_are_taken_with_a_note(dataset, monkeypatch):
  refused = ("labeled", "overlapping", "train")
  with pytest.raises(DataError, match="'c' is in list"):
    splits.make_split(dataset, *refused)
  published = {(known_lists.digest(("c", "a b")), known_lists.digest(("d", "c")))}
  monkeypatch.setattr(lists_of_cps, "TOGETHER", published)
  split = splits.make_split(dataset, *refused)
  assert split.unlabeled.ids == ("d", "c")
  note = "1 picture is labeled and unlabeled at once, as these two lists were published"
  assert split.unlabeled.notes == (note,)
  with pytest.raises(DataError, match="'c' is in list"):  # the same list beside another one
    splits.make_split(dataset, "overlapping", "with_e", "train")


def test_check_disjoint(dataset):
  train, val = splits.resolve(dataset, "train"), splits.resolve(dataset, "val")
  splits.check_disjoint(train, val)
  with pytest.raises(DataError, match="'c'.*2 such ids"):
    splits.check_disjoint(train, splits.IdList("x", ("d", "c")))


def test_named_sources(dataset, tmp_path):
  (tmp_path / "list.txt").write_text("d\nv1.5\n")
  sources = ("plain=unlabeled_e", f" coarse = {tmp_path / 'list.txt'}", "mixed=with_e")
  split = splits.make_split(dataset, "labeled", "rest", "train", sources)
  assert list(split.lists()) == ["labeled", "unlabeled", "plain", "coarse", "mixed"]
  assert split.ids("coarse") == ("d", "v1.5") and split.ids("labeled") == ("c", "a b")
  labeled = {name: ids.describe()["labeled"] for name, ids in split.more.items()}
  assert labeled == {"plain": False, "coarse": True, "mixed": False}
  with pytest.raises(
    DataError, match="'fine' of pictures, only labeled, unlabeled, plain, .*fine="
  ):
    split.ids("fine")
  assert splits.make_split(dataset, "labeled", "rest", "train").more == {}


def test_all_that_is_wrong_with_sources_is_named(dataset, tmp_path):
  (tmp_path / "list.txt").write_text("d\nnobody\n")
  texts = ["labeled=train", "val=val", "ok=train", "ok=val", "train", "A=train", "b=", "c=nothing",
           f"e={tmp_path / 'list.txt'}", "f=nowhere"]  # fmt: skip
  with pytest.raises(DataError) as error:
    splits.resolve_sources(dataset, texts)
  message = str(error.value)
  for problem in (
    "'labeled=train': there is a list 'labeled' already",
    "'val=val': there is a list 'val' already",
    "'ok=val': there is a list 'ok' already",
    "'train': write NAME=LIST",
    "'A=train': write NAME=LIST",
    "'b=': write NAME=LIST",
    "'c=nothing': list 'nothing' cannot be used",
    "'nobody' names no picture",
    "'f=nowhere': 'nowhere' is neither",
  ):
    assert problem in message
  assert "'ok=train'" not in message


def test_validation_pictures_in_any_source_are_named(dataset):
  val = splits.IdList("val", ("c", "e"))
  split = splits.make_split(dataset, "labeled", "rest", "train", ("more=unlabeled_e", "x=val"))
  with pytest.raises(DataError) as error:
    splits.check_held_out(split, val)
  assert [line.split()[0] for line in str(error.value).splitlines()[1:]] == ["'c'", "'e'", "'e'"]
  only = splits.Split(split.labeled, splits.IdList("none", ()))
  with pytest.raises(DataError, match="^'c' is in list 'labeled' and in list 'val'"):
    splits.check_held_out(only, val)
  splits.check_held_out(split, splits.IdList("val", ("nobody",)))


def test_a_source_of_two_folders(dataset, tmp_path):
  image = np.ones((2, 2, 3), np.uint8)
  with DatasetWriter(tmp_path / "d", name="more", classes=["x"], colors=[(0, 0, 0)]) as writer:
    writer.add("c", image=image)
    writer.add("z", image=image)
  pool = JoinedDataset(dataset, Dataset.open(tmp_path / "d"))
  (tmp_path / "list.txt").write_text("more/c\nz\nd\n")
  texts = (f"both={tmp_path / 'list.txt'}", "first=with_e")
  split = splits.make_split(pool, "labeled", "rest", "train", texts)
  assert split.ids("both") == ("more/c", "z", "d") and split.ids("first") == ("c", "e")
