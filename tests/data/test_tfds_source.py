"""A tfds build is a source of training and evaluation, without TensorFlow."""

import itertools
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from semiseg_jax import evaluate, train
from semiseg_jax.data import opening, pipeline, splits
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.tfds_source import Features, TfdsDataset
from semiseg_jax.errors import DataError
from tests import small_city, tfds_build

REPOSITORY = pathlib.Path(__file__).parents[2]
PLAIN = Features("image", "segmentation_mask")
BY_NAME = Features("image", "segmentation_mask", id="file_name")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
  def label(number, ids):
    return tfds_build.encode(ids, palette=number % 2 == 0)

  return tfds_build.write(tmp_path_factory.mktemp("tfds"), label=label)


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory):
  """A build whose label values are 10, 20, 30 and 77, without class names."""
  values = np.zeros(256, np.uint8)
  values[[0, 1, 2, 255]] = 10, 20, 30, 77
  return tfds_build.write(
    tmp_path_factory.mktemp("tfds"),
    named=False,
    label=lambda _, ids: tfds_build.encode(values[ids]),
  )


def _data(build, **changes):
  keys = {
    "root": f"tfds:{build}",
    "unlabeled_root": "",
    "tfds_image": "image",
    "tfds_label": "segmentation_mask",
    "tfds_id": "",
    "tfds_classes": "",
    "tfds_ignored": (),
  }
  return ConfigDict(keys | changes)


def test_splits_are_lists_and_pictures_are_numbered(build):
  dataset = opening.open_dataset(_data(build))
  info = dataset.info
  assert info.name == "tiny_city" and info.classes == tfds_build.CLASSES and info.channels == 3
  assert {name: len(ids) for name, ids in info.lists.items()} == tfds_build.COUNTS
  assert info.lists["validation"] == tuple(f"validation_{i:06d}" for i in range(4))
  assert len(dataset) == len(info.ids) == 11 and all(info.labeled)
  assert dataset.index("validation_000000") == 7
  assert splits.resolve(dataset, "train").ids == info.ids[:7]


def test_every_picture_is_what_was_written(build):
  dataset = TfdsDataset.open(build, BY_NAME)
  assert sorted(dataset.info.ids) == sorted(f"pic_{i}.png" for i in range(11))
  for name, numbers in (("train", range(7)), ("validation", range(7, 11))):
    assert sorted(dataset.info.lists[name]) == sorted(f"pic_{i}.png" for i in numbers)
  for number in range(11):
    image, label = tfds_build.picture(number)
    example = dataset.read(dataset.index(f"pic_{number}.png"))
    np.testing.assert_array_equal(example.image, image)
    np.testing.assert_array_equal(example.label, label)
    assert example.id == f"pic_{number}.png"


def test_lists_name_pictures_by_their_feature(build, tmp_path):
  (tmp_path / "list.txt").write_text("pic_3\nimages/pic_0.jpg\n")
  dataset = TfdsDataset.open(build, BY_NAME)
  assert splits.resolve(dataset, str(tmp_path / "list.txt")).ids == ("pic_3.png", "pic_0.png")


def test_pickles_and_reads_on(build):
  dataset = TfdsDataset.open(build, BY_NAME)
  expected = dataset.read(4)
  copy = pickle.loads(pickle.dumps(dataset))
  np.testing.assert_array_equal(copy.read(4).image, expected.image)
  assert copy.info == dataset.info


def test_fingerprint_follows_what_is_read(build, tmp_path):
  def print_of(root, features):
    return TfdsDataset.open(root, features).info.fingerprint

  assert print_of(build, PLAIN) == print_of(build, PLAIN)
  moved = shutil.copytree(build, tmp_path / "elsewhere" / "1.0.0")
  assert print_of(moved, PLAIN) == print_of(build, PLAIN)
  (tmp_path / "c.txt").write_text("a\nb\nc\n")
  others = [
    Features("image", "segmentation_mask", classes_file=str(tmp_path / "c.txt")),
    Features("image", "segmentation_mask", ignored=(1,)),
    Features("image", ""),
    BY_NAME,
  ]
  assert len({print_of(build, features) for features in (PLAIN, *others)}) == 5
  shutil.copy(tmp_path / "c.txt", tmp_path / "moved.txt")
  again = Features("image", "segmentation_mask", classes_file=str(tmp_path / "moved.txt"))
  assert print_of(build, again) == print_of(build, others[0])


def test_class_ids_of_a_classes_file(unnamed, tmp_path):
  classes = [{"id": 30, "name": "box"}, {"id": 10, "name": "ground"}, {"id": 20, "name": "disc"}]
  file = tmp_path / "classes.json"
  file.write_text(json.dumps({"classes": classes, "ignore_id": 77}))
  features = Features("image", "segmentation_mask", "file_name", str(file))
  dataset = TfdsDataset.open(unnamed, features)
  assert dataset.info.classes == ("box", "ground", "disc")
  expected = np.array([1, 2, 0] + [0] * 252 + [255], np.uint8)[tfds_build.picture(5)[1]]
  index = dataset.index("pic_5.png")
  np.testing.assert_array_equal(dataset.read(index).label, expected)

  file.write_text(json.dumps({"classes": classes[:2], "ignore_id": 77}))
  with pytest.raises(DataError, match="pic_5.*20 .*pixels.* outside the classes"):
    TfdsDataset.open(unnamed, features).read(index)
  ignoring = Features("image", "segmentation_mask", "file_name", str(file), ignored=(20,))
  found = TfdsDataset.open(unnamed, ignoring).read(index).label
  np.testing.assert_array_equal(found, np.where(expected == 2, 255, expected))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
  """In the style of scene_parse150: ids from 1, 0 for no class, in three equal channels."""

  def label(number, ids):
    values = np.where(ids == 255, 0, ids + 1).astype(np.uint8)
    return tfds_build.encode(np.dstack([values] * 3) if number % 2 else values)

  return tfds_build.write(tmp_path_factory.mktemp("tfds"), label=label, named=False, channels=3)


ENTRIES = [{"id": 1, "name": "ground"}, {"id": 2, "name": "disc"}, {"id": 3, "name": "box"}]


@pytest.mark.parametrize(
  "file, ignored",
  [
    ("1: ground\n2: disc\n3: box\n", (0,)),
    (json.dumps({"classes": ENTRIES, "ignore_id": 0}), ()),
  ],
)
def test_three_equal_channels_are_ids(parsed, tmp_path, file, ignored):
  path = tmp_path / ("classes.json" if file[0] == "{" else "classes.txt")
  path.write_text(file)
  features = Features("image", "segmentation_mask", classes_file=str(path), ignored=ignored)
  dataset = TfdsDataset.open(parsed, features)
  assert dataset.info.classes == tfds_build.CLASSES
  written = sorted(tfds_build.picture(n)[1].tobytes() for n in range(7))  # tfds shuffles them
  assert sorted(dataset.read(index).label.tobytes() for index in range(7)) == written


def test_values_of_no_class_and_colors_propose_what_a_build_can_do(parsed, build, tmp_path):
  (tmp_path / "classes.txt").write_text("ground\ndisc\nbox\n")
  features = Features("image", "segmentation_mask", classes_file=str(tmp_path / "classes.txt"))
  with pytest.raises(DataError) as error:
    TfdsDataset.open(parsed, features).read(0)
  message = str(error.value)
  assert re.search(r"3 \(\d+ pixels\) outside the classes \(ids 0 to 2, ignored 255\)", message)
  assert "--config.data.tfds_classes=FILE of lines such as '1: wall'" in message
  assert '--config.data.tfds_ignored="0,"' in message
  with pytest.raises(DataError) as colored:
    TfdsDataset.open(
      build, Features("image", "image", classes_file=str(tmp_path / "classes.txt"))
    ).read(0)
  message_of_colors = str(colored.value)
  assert "'image' holds colors" in message_of_colors and "segmentation_mask" in message_of_colors
  for flag in ("--label_colors", "--first_id", "--ignore_id", "--label_values", "data_prep"):
    assert flag not in message + message_of_colors


def test_no_label_means_unlabeled_pictures(build):
  dataset = TfdsDataset.open(build, Features("image", ""))
  assert not any(dataset.info.labeled) and dataset.info.classes == ()
  assert dataset.read(0).label is None


def _with_image(build, array):
  """The dataset `build` with other bytes for its pictures."""
  dataset = TfdsDataset.open(build, PLAIN)
  _, label, name = dataset._fields(0)
  dataset._fields = lambda index: (tfds_build.encode(array).getvalue(), label, name)
  return dataset


def test_gray_and_alpha_become_color_as_in_tfds(build):
  label = TfdsDataset.open(build, PLAIN).read(0).label
  gray = np.random.default_rng(0).integers(0, 256, label.shape, dtype=np.uint8)
  rgba = np.dstack([gray, gray + 1, gray + 2, gray // 2])
  for array, expected in ((gray, np.dstack([gray] * 3)), (rgba, rgba[..., :3])):
    np.testing.assert_array_equal(_with_image(build, array).read(0).image, expected)
  with pytest.raises(DataError, match="label of size"):
    _with_image(build, gray[1:]).read(0)


def test_labels_that_may_not_be_exact_are_refused(tmp_path):
  root = tfds_build.write(tmp_path, label=lambda _, ids: tfds_build.encode(ids, "JPEG"))
  with pytest.raises(DataError, match="train_000000.*is no PNG"):
    TfdsDataset.open(root, PLAIN).read(0)


@pytest.mark.parametrize(
  "features, message",
  [
    (
      Features("picture", "segmentation_mask"),
      "data.tfds_image.*file_name .Text., image .Image., kind",
    ),
    (Features("image", "file_name"), "'file_name' is no feature of kind Image.*data.tfds_label"),
    (Features("image", "segmentation_mask", id="image"), "data.tfds_id"),
    (Features("", "segmentation_mask"), "data.tfds_image"),
    (Features("image", "segmentation_mask", id="kind"), "kind 'street' names two pictures"),
    (Features("image", "segmentation_mask", classes_file="none.txt"), "none.txt cannot be read"),
  ],
)
def test_features_that_are_not_there(build, features, message):
  with pytest.raises(DataError, match=f"(.|\n)*{message}"):
    TfdsDataset.open(build, features)


def test_a_label_without_class_names_needs_a_classes_file(unnamed):
  with pytest.raises(DataError, match="gives no class names.*data.tfds_classes=FILE"):
    TfdsDataset.open(unnamed, PLAIN)


def _broken(build, tmp_path, how):
  root = shutil.copytree(build, tmp_path / "1.0.0")
  info = root / "dataset_info.json"
  if how == "absent":
    shutil.rmtree(root)
  elif how == "no build":
    info.unlink()
  elif how == "tfrecord":
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
  elif how == "damaged":
    info.write_text(info.read_text()[:40])
  elif how == "no features":
    (root / "features.json").unlink()
  else:
    next(root.glob("*validation*")).unlink()
  return root


@pytest.mark.parametrize(
  "how, message",
  [
    ("absent", "is no tfds build"),
    ("no build", "is no tfds build"),
    ("tfrecord", "stored as tfrecord.*convert_format"),
    ("damaged", "cannot read this build"),
    ("no features", "cannot read this build"),
    ("a file less", "missing; build the dataset again"),
  ],
)
def test_builds_that_cannot_be_read(build, tmp_path, how, message):
  with pytest.raises(DataError, match=message):
    opening.open_dataset(_data(_broken(build, tmp_path, how)))


def test_a_damaged_record_is_named(build, tmp_path):
  root = shutil.copytree(build, tmp_path / "1.0.0")
  (file,) = root.glob("*train*")
  data = bytearray(file.read_bytes())
  data[3000:30000] = bytes(27000)
  file.write_bytes(data)
  dataset = TfdsDataset.open(root, PLAIN)
  with pytest.raises(DataError, match="train_0000"):
    for index in range(7):
      dataset.read(index)


def test_the_missing_package_is_named(build, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(DataError, match="pip install tensorflow-datasets"):
    TfdsDataset.open(build, PLAIN)


def test_as_a_second_dataset(build, tmp_path):
  small_city.write(tmp_path / "city", pictures=4, val=1)
  data = _data(
    build, root=str(tmp_path / "city"), unlabeled_root=f"tfds:{build}", tfds_label="none"
  )
  main = opening.open_dataset(data)
  pool = opening.open_pool(data, main)
  assert isinstance(pool, JoinedDataset) and len(pool) == 5 + 11
  split = splits.make_split(pool, "labeled_1_4", "train", "train")
  assert split.unlabeled.ids == tuple(f"train_{i:06d}" for i in range(7))
  example = pool.read(pool.index("train_000002"))
  assert example.label is None and example.image.shape[1:] == (40, 3)


WITHOUT_TENSORFLOW = """
import functools, itertools, sys
from ml_collections import ConfigDict
from semiseg_jax.data import opening, pipeline
from semiseg_jax.data.augment import families

data = ConfigDict(dict(root="tfds:" + sys.argv[1], tfds_image="image", tfds_id="file_name",
                       tfds_label="segmentation_mask", tfds_classes="", tfds_ignored=()))
dataset = opening.open_dataset(data)

def augment(record, rng):
  part = record.window(0, 0, 32, 32)
  return {"image": part.image, "label": part.label}

stream = pipeline.StreamSpec("labeled", dataset.info.lists["train"], 3, "labeled", augment)
batches = pipeline.make_batches(dataset, [stream], seed=0, start_step=0, rows=slice, workers=0)
shapes = [b["labeled"]["image"].shape for b in itertools.islice(batches, 4)]
whole = [dataset.read(dataset.index(id_)).label.shape for id_ in dataset.info.lists["validation"]]
print(set(shapes), len(whole), "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_tensorflow_is_not_imported(build):
  done = subprocess.run(
    [sys.executable, "-c", WITHOUT_TENSORFLOW, build],
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
  )
  assert done.stdout == "{(3, 32, 32, 3)} 4 False\n", done.stderr


@pytest.mark.slow
def test_training_and_evaluation(build, tmp_path, capsys):
  changes = {
    "data__train": "train",
    "data__labeled": str(tmp_path / "labeled.txt"),
    "data__val": "validation",
    "data__tfds_id": "file_name",
  }
  (tmp_path / "labeled.txt").write_text("pic_1\npic_4\n")
  config = small_city.config(f"tfds:{build}", "ratio=1_4", **changes)
  train.train(config, str(tmp_path / "run"))
  said = capsys.readouterr().out
  assert "2 labeled" in said and "5 unlabeled" in said and "4 evaluated (validation)" in said
  fields = evaluate.evaluate(str(tmp_path / "run"))
  assert fields["pictures"] == 4 and list(fields["iou"]) == list(tfds_build.CLASSES)
  assert fields["labeled_pixels"] == sum((33 + n - 1) * 40 for n in range(7, 11))
  assert fields["trained_on"]["fingerprint"] == fields["dataset"]["fingerprint"]


def test_batches_are_those_pictures(build):
  dataset = TfdsDataset.open(build, PLAIN)

  def corner(record, rng):
    part = record.window(1, 2, 21, 22)
    return {"image": part.image, "label": part.label}

  spec = pipeline.StreamSpec("all", dataset.info.lists["train"], 2, "all", corner)
  batches = pipeline.make_batches(dataset, [spec], seed=0, start_step=0, rows=slice, workers=0)
  for batch in itertools.islice(batches, 3):
    for image, label, index in zip(*(batch["all"][k] for k in ("image", "label", "index"))):
      example = dataset.read(int(index))
      np.testing.assert_array_equal(image, example.image[1:21, 2:22])
      np.testing.assert_array_equal(label, example.label[1:21, 2:22])
  batches.close()
