"""Pseudo labels of a folder of plain pictures, read back as data sets and as targets."""

import json
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from data_prep import folder as folder_prep
from data_prep import targets as targets_prep
from data_prep.sources.folder_options import Source
from semiseg_jax import label as label_command
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import Targets
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import chosen_files, folder_labels, kept_labels, protocol, source_ids
from semiseg_jax.evaluation.labeled_files import LeftOut
from semiseg_jax.evaluation.maps import Maps

CLASSES, COLORS = ("road", "sky"), ((128, 64, 128), (70, 130, 180))
PIXELS = np.array([[[0, 0, 0], [30, 0, 0], [250, 9, 9]]], np.uint8).repeat(2, 0)
HOW = protocol.Protocol("whole", None, None, 1, "mean")


def _said(image, wanted):
  """Class 1 where the first channel is above 127; confidences 1, 0.88 and 0.98."""
  red = image[..., 0] / 255
  confidence = np.maximum(red, 1 - red)
  soft = {}
  if wanted.top:
    soft["top_classes"] = np.stack([red > 0.5, red <= 0.5], -1).astype(np.uint8)
    soft["top_probabilities"] = np.rint(255 * np.stack([confidence, 1 - confidence], -1))
    soft["top_probabilities"] = soft["top_probabilities"].astype(np.uint8)
  doubt = (1 - confidence).astype(np.float16) if wanted.doubt else None
  levels = np.rint(255 * confidence).astype(np.uint8)
  return Maps((red > 0.5).astype(np.uint8), confidence=levels, doubt=doubt, **soft)


@pytest.fixture
def label(tmp_path, monkeypatch):
  """Labels tmp_path/in, two pictures, with networks whose answers are known."""
  segmenter = lambda trained, how, wanted, **_: types.SimpleNamespace(
    segment_many=lambda images, sizes=(): (_said(image, wanted) for image in images)
  )
  monkeypatch.setattr(folder_labels.mapping, "segmenter", segmenter)
  about = {"classes": CLASSES, "colors": COLORS, "channels": 3, "source_ids": (10, 20)}
  trained = types.SimpleNamespace(
    dataset=about | {"name": "d"}, config=types.SimpleNamespace(name="teacher"), step=3,
    checksums={"networks": 1},
  )  # fmt: skip
  (tmp_path / "in/deep").mkdir(parents=True)
  Image.fromarray(PIXELS).save(tmp_path / "in/a.png")
  Image.fromarray(PIXELS[:, ::-1]).save(tmp_path / "in/deep/b.png")

  def run(form="masks", ids="train", threshold=(), share=None, top=0):
    chosen = chosen_files.choose(str(tmp_path / "in"), None, tmp_path / "out")
    return folder_labels.label_files(
      trained,
      HOW,
      chosen,
      tmp_path / "out",
      form=form,
      ids=source_ids.with_ignored(source_ids.table(ids, trained.dataset)),
      keep=kept_labels.rule(threshold, share, CLASSES),
      top=top,
      rule="last",
      reading={},
    )

  return run


def _prepared(root):
  """A data set of the pictures and masks, root/data."""
  source = Source(
    images=str(root / "in"),
    labels=str(root / "out/masks"),
    classes=str(root / "out/classes.json"),
  )
  return folder_prep.prepare(source, root / "data", workers=1, say=lambda _: None)


def _origin(out):
  return json.loads((out / "origin.json").read_text())


def test_masks_are_read_as_a_data_set_of_ones_own(label, tmp_path):
  out = tmp_path / "out"
  assert label(threshold=["0.9"]) == []
  for name, expected in (("a", [0, 255, 1]), ("deep/b", [1, 255, 0])):
    mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
    assert mask.tolist() == [expected] * 2
  found = _origin(out)
  assert (found["run"], found["step"], found["rule"]) == ("teacher", 3, "last")
  assert found["threshold"] == [0.9, 0.9] and found["pixels"] == [4, 4, 4]
  assert found["protocol"]["network"] == "mean"
  info = _prepared(tmp_path)
  assert info.classes == CLASSES and list(info.class_pixels) == [4, 4, 4]
  assert info.colors == COLORS


def test_masks_become_stored_targets(label, tmp_path):
  label(ids="source", share=0.5, top=2)
  out = tmp_path / "out"
  with np.load(out / "soft/deep/b.npz") as soft:
    assert soft["top_classes"][0].tolist() == [[1, 0], [0, 1], [0, 1]]
  _prepared(tmp_path)
  info = targets_prep.prepare(
    targets_prep.Source(
      str(tmp_path / "data"), str(out / "masks"), str(out / "confidence"), unlabeled="all",
      classes=str(out / "classes.json"),
    ),
    tmp_path / "targets",
    say=lambda _: None,
  )  # fmt: skip
  assert sorted(info.ids) == ["a", "b"] and list(info.class_pixels) == [4, 4, 4]
  maps = Targets.open(tmp_path / "targets").record("a").window(0, 0, 2, 3)
  assert maps["target"].values.tolist() == [[0, 255, 1]] * 2
  assert maps["confidence"].values.tolist() == [[255, 0, 250]] * 2


def test_a_data_set_keeps_the_files_and_says_who_labeled(label, tmp_path):
  assert label(form="dataset", threshold=["0.9"]) == []
  dataset = Dataset.open(tmp_path / "out")
  assert dataset.info.lists == {"train": ("a", "deep/b"), "labeled": ("a", "deep/b")}
  example = dataset.read(dataset.index("deep/b"))
  np.testing.assert_array_equal(example.image, PIXELS[:, ::-1])
  assert example.label.tolist() == [[1, 255, 0]] * 2
  assert tuple(dataset.info.source_ids) == (10, 20)
  assert _origin(tmp_path / "out")["checksums"] == {"networks": 1}


@pytest.mark.parametrize("form", ["masks", "dataset"])
def test_a_broken_picture(label, tmp_path, form):
  """It is left out and named; the others are done, and a data set of them is whole."""
  (tmp_path / "in/broken.jpg").write_bytes(b"\xff\xd8 no picture")
  (failure,) = failures = label(form=form)
  assert "broken.jpg" in failure and (failures.pictures, failures.done) == (3, 2)
  if form == "masks":
    assert (tmp_path / "out/masks/deep/b.png").is_file()
    return
  dataset = Dataset.open(tmp_path / "out")
  assert dataset.info.lists == {"train": ("a", "deep/b"), "labeled": ("a", "deep/b")}
  assert _origin(tmp_path / "out")["left_out"] == [failure]


def test_a_data_set_of_broken_pictures_alone_is_not_written(label, tmp_path):
  for file in pathlib.Path(tmp_path / "in").rglob("*.*"):
    file.write_bytes(b"no picture")
  with pytest.raises(DataError, match="no picture can be labeled(.|\n)*a.png(.|\n)*b."):
    label(form="dataset")
  assert [p.name for p in pathlib.Path(tmp_path).iterdir()] == ["in"]


def test_the_command_says_what_was_left_out_and_its_status_does(monkeypatch, capsys):
  failures = LeftOut(["in/broken.jpg: cannot be read"])
  failures.pictures = 2
  monkeypatch.setattr(label_command, "label_folder", lambda **given: failures)
  argv = ["--workdir=run", "--out=out", "--images=in", "--form=dataset"]
  with pytest.raises(SystemExit) as ended:
    label_command.main(argv)
  assert str(ended.value.code).startswith("label: 1 of 2 done, 1 picture was left out:\n  in/brok")
  assert capsys.readouterr().out.startswith("a data set of 1 picture lies in out")


@pytest.mark.parametrize(
  "flags, said",
  [
    (["--images=in", "--unlabeled=all"], "--unlabeled: of a data set, and --images"),
    (["--list=a.txt", "--data_root=d"], "--data_root: of a data set"),
    (["--form=dataset"], "--form: for plain pictures"),
    (["--value_range", "0", "9"], "--value_range: for plain pictures"),
    (["--images=in", "--form=dataset", "--topk=2"], "a data set has one class"),
    (["--images=in", "--form=dataset", "--ids=source"], "a data set has one class"),
  ],
)
def test_flags_that_do_not_go_together_are_refused_before_a_run_is_read(flags, said):
  with pytest.raises(SystemExit, match=f"label: .*{said}"):
    label_command.main(["--workdir=nowhere", "--out=nowhere", *flags])
