"""Masks of somebody else's network become targets, or one message says all that is wrong."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from data_prep import targets
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import Targets
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError

REPOSITORY = pathlib.Path(__file__).parents[2]
CLASSES = ("road", "sky", "car")
IDS = [f"p{i}" for i in range(8)]
LABELED, VAL = IDS[:2], IDS[7:]
REST = IDS[2:7]


def _size(id_):
  return 9, 11 + int(id_[1]) % 2


def _mask(id_):
  """Class ids, some of them ignored."""
  rng = np.random.default_rng(int(id_[1]))
  mask = rng.integers(0, 3, _size(id_), np.uint8)
  mask[:2, :3] = 255
  return mask


def _share(id_):
  return np.random.default_rng(70 + int(id_[1])).random(_size(id_))


@pytest.fixture
def source(tmp_path):
  """A dataset of eight pictures, and masks and confidences of the five unlabeled ones."""
  rng = np.random.default_rng(0)
  colors = [(i, i, i) for i in range(3)]
  with DatasetWriter(tmp_path / "data", name="d", classes=CLASSES, colors=colors) as writer:
    for id_ in IDS:
      label = rng.integers(0, 3, _size(id_), np.uint8) if id_ in (*LABELED, *VAL) else None
      writer.add(id_, image=rng.integers(0, 256, (*_size(id_), 3), np.uint8), label=label)
    writer.lists(train=IDS[:7], labeled=LABELED, val=VAL)
  for id_ in REST:
    folder = tmp_path / "masks" / "ab"[int(id_[1]) % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_mask(id_)).save(folder / f"{id_}.png")
    (tmp_path / "scores").mkdir(exist_ok=True)
    np.save(tmp_path / f"scores/{id_}.npy", _share(id_).astype(np.float32))
  return tmp_path


def _options(source, **changes):
  options = {"dataset": source / "data", "masks": source / "masks", **changes}
  return targets.Source(
    **{k: str(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}
  )


def _prepare(source, **changes):
  said = []
  targets.prepare(_options(source, **changes), source / "out", say=said.append)
  return Targets.open(source / "out"), "\n".join(said)


def _fails(source, message, **changes):
  with pytest.raises(DataError, match=message) as caught:
    _prepare(source, **changes)
  left = {path.name for path in source.iterdir()}
  assert not {name for name in left if "out" in name}, "something was left behind"
  return str(caught.value)


def _stored(found, id_):
  maps = found.record(id_).window(0, 0, *_size(id_))
  return maps["target"].values, maps["confidence"].values


def test_masks_alone_are_certain(source):
  found, said = _prepare(source)
  assert found.info.ids == tuple(REST) and found.info.about["masks"] == "masks"
  for id_ in REST:
    label, confidence = _stored(found, id_)
    np.testing.assert_array_equal(label, _mask(id_))
    np.testing.assert_array_equal(confidence, np.where(_mask(id_) == 255, 0, 255))
  found.check(Dataset.open(source / "data"), REST, ("label", "confidence"))
  assert "targets of 5 pictures of 'd'" in said and "--config.data.targets=" in said


def test_confidences_of_floats_and_of_gray_pictures(source):
  for id_ in REST[:2]:
    (source / f"scores/{id_}.npy").unlink()
    Image.fromarray(np.uint8(200 * _share(id_))).save(source / f"scores/{id_}.png")
  np.save(source / f"scores/{REST[2]}.npy", np.uint8(9 + 0 * _share(REST[2])))
  found, _ = _prepare(source, confidence=source / "scores")
  for id_ in REST:
    expected = np.floor(200 * _share(id_)) if id_ in REST[:2] else 255 * _share(id_)
    confidence, labeled = _stored(found, id_)[1], _mask(id_) != 255
    assert not confidence[~labeled].any()
    if id_ == REST[2]:
      assert set(confidence[labeled]) == {9}
    else:
      assert np.abs(confidence - expected)[labeled].max() <= 0.5 + 1e-4


def test_ids_of_another_classes_file(source):
  """In another order, without one of the classes, with its own ignored id."""
  own = {"classes": [{"id": 7, "name": "car"}, {"id": 40, "name": "road"}], "ignore_id": 3}
  (source / "own.json").write_text(json.dumps(own))
  ids = np.zeros(256, np.uint8)
  ids[[0, 1, 2, 255]] = 40, 3, 7, 3
  for path in (source / "masks").rglob("*.png"):
    Image.fromarray(ids[_mask(path.stem)]).save(path)
  found, said = _prepare(source, classes=source / "own.json")
  for id_ in REST:
    expected = np.where(_mask(id_) == 1, 255, _mask(id_))
    np.testing.assert_array_equal(_stored(found, id_)[0], expected)
  assert "no mask shows: sky" in said
  own["classes"].append({"id": 9, "name": "unicorn"})
  (source / "more.json").write_text(json.dumps(own))
  (source / "out").rename(source / "before")
  _fails(
    source, "'unicorn' is no class of .*which has road, sky, car", classes=source / "more.json"
  )


def test_another_ignored_id(source):
  path = next((source / "masks").rglob("p3.png"))
  Image.fromarray(np.where(_mask("p3") == 255, 9, _mask("p3"))).save(path)
  _fails(source, r"p3.png: 9 \(6 pixels\) outside the classes \(ids 0 to 2, ignored 255\)")
  _fails(source, "--ignore_id 1 is the class 'sky'.*--classes", ignore_id=1)


def _save_masks(source, values):
  """Of each picture class 2 is the last of `values`, and everything else the first."""
  for path in (source / "masks").rglob("*.png"):
    Image.fromarray(np.array(values, np.uint8)[(_mask(path.stem) == 2).astype(int)]).save(path)


def test_masks_of_0_and_255_need_a_word(source):
  _save_masks(source, (0, 255))
  _fails(source, "1 problem .*\n.*0 and 255 only.*--label_values 0 255")
  _fails(source, "--label_values 0 255: .* for each class .*road, sky, car", label_values=(0, 255))
  found, _ = _prepare(source, label_values=(0, 7, 255))
  for id_ in REST:
    label, confidence = _stored(found, id_)
    np.testing.assert_array_equal(label, np.where(_mask(id_) == 2, 2, 0))
    assert (confidence == 255).all()


def test_values_of_a_classes_file(source):
  _save_masks(source, (0, 255))
  (source / "own.txt").write_text("car\nroad\n")
  found, _ = _prepare(source, classes=source / "own.txt", label_values=(255, 0))
  np.testing.assert_array_equal(_stored(found, "p3")[0], np.where(_mask("p3") == 2, 2, 0))


def test_masks_that_count_from_one(source):
  _save_masks(source, (1, 2))
  (source / "own.txt").write_text("road\ncar\nsky\n")
  _fails(source, "--first_id 1", classes=source / "own.txt")
  found, _ = _prepare(source, classes=source / "own.txt", first_id=1)
  np.testing.assert_array_equal(_stored(found, "p3")[0], np.where(_mask("p3") == 2, 2, 0))


def test_lists_choose_the_pictures(source):
  _fails(source, "2 problems(.|\n)*'p0' has no mask(.|\n)*'p1' has no", unlabeled="all")


def test_other_masks_are_left_out_loudly(source):
  (source / "few.txt").write_text("p2\np4\n")
  found, said = _prepare(source, unlabeled=source / "few.txt")
  assert found.info.ids == ("p2", "p4")
  assert "NOTE: 3 masks are left out" in said


def test_everything_wrong_is_in_one_message(source):
  masks = source / "masks"
  next(masks.rglob("p2.png")).unlink()  # missing
  Image.fromarray(_mask("p4")[:, :5]).save(masks / "a/p4.png")  # another size
  Image.fromarray(_mask("p3") + np.uint8(1)).save(masks / "b/p3.png")  # foreign ids
  Image.fromarray(_mask("p3")).save(masks / "a/stranger.png")  # no picture
  (masks / "b/p5.png").write_bytes(b"no picture at all")
  (source / "scores/p6.npy").unlink()
  np.save(source / "scores/p5.npy", 100 * _share("p5"))
  text = _fails(source, "^7 problems .*nothing was written", confidence=source / "scores")
  for said in (
    "'p2' has no mask",
    "p4.png: 5x9 pixels, its picture 'p4' 11x9",
    r"p3.png: 3 (",
    "stranger.png names no picture",
    "p5.png: cannot be read",
    "p6.png has no confidence",
    "p5.npy: values outside of 0 to 1",
  ):
    assert text.count(said) == 1, said
  assert len(text.splitlines()) == 8


@pytest.mark.parametrize(
  "values, said",
  [
    (np.full((9, 12), np.nan), "outside of 0 to 1"),
    (np.full((9, 12), 7), "int64 values; save floats"),
    (np.full((9, 12, 2), 0.5), "2x12x9 pixels"),
  ],
)
def test_confidences_that_cannot_be(source, values, said):
  np.save(source / "scores/p3.npy", values)
  _fails(source, f"p3.npy: .*{said}", confidence=source / "scores")


def test_messages_name_options_of_this_command(source):
  (source / "scores/p3.npy").unlink()
  (source / "scores/p4.npy").unlink()
  Image.fromarray(np.zeros((9, 12), np.uint16)).save(source / "scores/p3.png")
  Image.fromarray(np.zeros((9, 11, 3), np.uint8)).save(source / "scores/p4.png")
  Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(next((source / "masks").rglob("p5.png")))
  text = _fails(source, "^3 problems", confidence=source / "scores")
  assert "--" not in text.replace(str(source), "")
  for said in ("p3.png: uint16 values", "p4.png: 3 channels instead of 1; save it in gray"):
    assert text.count(said) == 1, said
  assert "p5.png: a color picture" in text and "; save the ids of classes" in text


@pytest.mark.parametrize("ids, files", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_letters_taken_apart(tmp_path, ids, files):
  form = lambda kind: unicodedata.normalize(kind, "Z\u00fcrich")
  with DatasetWriter(tmp_path / "data", name="d", classes=["a"], colors=[(0, 0, 0)]) as writer:
    for id_ in ("a", form(ids)):
      label = np.zeros((4, 5), np.uint8) if id_ == "a" else None
      writer.add(id_, image=np.zeros((4, 5, 3), np.uint8), label=label)
    writer.lists(train=["a", form(ids)], labeled=["a"])
  (tmp_path / "masks").mkdir()
  Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "masks" / f"{form(files)}.png")
  found, _ = _prepare(tmp_path)
  assert found.info.ids == (form(ids),)


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_a_mask_in_place_of_a_confidence_is_named(source, suffix):
  mask = (_share("p3") > 0.5).astype(np.uint8)
  (source / "scores/p3.npy").unlink()
  if suffix == "npy":
    np.save(source / "scores/p3.npy", mask)
  else:
    Image.fromarray(mask).save(source / "scores/p3.png")
  _fails(source, f"^1 problem .*\n.*p3.{suffix}: holds 0 and 1 only", confidence=source / "scores")


def test_confidences_that_may_be_percent_are_said(source):
  for id_ in REST:
    np.save(source / f"scores/{id_}.npy", np.rint(100 * _share(id_)).astype(np.uint8)[None])
  _, said = _prepare(source, confidence=source / "scores")
  assert "NOTE: the highest confidence is" in said and "percent" in said


def test_deep_confidences_are_refused(source):
  (source / "scores/p3.npy").unlink()
  Image.fromarray(np.full((9, 12), 30000, np.uint16)).save(source / "scores/p3.png")
  _fails(source, "p3.png: uint16 values.*convert to 8 bits", confidence=source / "scores")


def test_suffixes_and_pictures_with_two_masks(source):
  for path in (source / "masks").rglob("*.png"):
    path.rename(path.with_name(f"{path.stem}_sam.png"))
  _fails(source, "p2_sam.png names no picture(.|\n)*--mask_suffix")
  assert len(_prepare(source, mask_suffix="_sam")[0]) == 5
  (source / "out").rename(source / "before")
  Image.fromarray(_mask("p3")).save(source / "masks/a/p3_sam.png")
  _fails(source, "a/p3_sam.png and .*b/p3_sam.png are of one picture, 'p3'", mask_suffix="_sam")


def test_finished_targets_are_replaced_only_on_request(source):
  _prepare(source)
  with pytest.raises(DataError, match="out exists"):
    _prepare(source)
  targets.prepare(_options(source, name="sam"), source / "out", overwrite=True, say=lambda x: None)
  assert Targets.open(source / "out").info.about == {"masks": "sam", "confidence": False}


def test_pictures_of_a_second_dataset(source):
  rng = np.random.default_rng(1)
  with DatasetWriter(source / "more", name="m", classes=["x"], colors=[(0, 0, 0)]) as writer:
    for id_ in ("q3", "q4"):
      writer.add(id_, image=rng.integers(0, 256, (*_size(id_), 3), np.uint8))
      Image.fromarray(_mask(id_)).save(source / f"masks/a/{id_}.png")
  found, _ = _prepare(source, unlabeled_root=source / "more")
  assert found.info.ids == (*REST, "q3", "q4")
  np.testing.assert_array_equal(_stored(found, "q4")[0], _mask("q4"))


KILLED = """
import os, signal, sys
from data_prep import targets
from semiseg_jax.data.writing.targets_writer import TargetsWriter

add, count = TargetsWriter.add, []

def add_then_end(self, *args, **values):
  add(self, *args, **values)
  count.append(1)
  if len(count) == 3:
    os.kill(os.getpid(), int(sys.argv[1]))

TargetsWriter.add = add_then_end
targets.main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_nothing_is_taken_for_targets_and_the_command_goes_on(source, number):
  command = ["--dataset", str(source / "data"), "--masks", str(source / "masks")]
  command += ["--out", str(source / "out")]
  ended = subprocess.run(
    [sys.executable, "-c", KILLED, str(int(number)), *command],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert ended.returncode == (130 if number == signal.SIGINT else -number), ended.stderr
  assert not (source / "out").exists()
  targets.main(command)
  assert len(Targets.open(source / "out")) == 5
  assert not [path for path in source.iterdir() if path.name.startswith(".")]


def test_errors_of_the_command_are_short(source):
  with pytest.raises(SystemExit, match="error: folder of masks .*nowhere does not exist"):
    targets.main(["--dataset", str(source / "data"), "--masks", "nowhere", "--out", "out"])
