"""Both sides of the comparison make the same crop of the same picture."""

import cv2
import numpy as np
import pytest

from semiseg_jax.benchmark import input as measurement
from semiseg_jax.benchmark import made_pictures, opencv_loader
from semiseg_jax.data.augment.crops import Rules, random_crop
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.dataset import Dataset

KIND = made_pictures.Kind((96, 128), ".png", 40, 3, 1.0, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("made")
  made_pictures.make(KIND, folder)
  return folder


def test_files_and_shards_hold_the_same_pictures(made):
  dataset, raw = Dataset.open(made / "shards"), Dataset.open(made / "shards_raw")
  assert len(dataset) == KIND.count == len(raw) and raw.info.codec == "raw"
  for i in range(KIND.count):
    example = dataset.read(i)
    np.testing.assert_array_equal(raw.read(i).image, example.image)
    file = cv2.imread(str(made / f"image/{example.id}.png"))[:, :, ::-1]
    np.testing.assert_array_equal(example.image, file)
    label = cv2.imread(str(made / f"label/{example.id}.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(example.label, label)


@pytest.mark.parametrize("crop", [40, 100])  # smaller than every scaled picture, and than few
def test_both_transforms_make_the_same_crop(made, crop):
  """Of the same draws, up to the last level of the resizing of a part of the picture."""
  example = Dataset.open(made / "shards").read(0)
  rules = Rules(FAMILIES["cps"], (crop, crop), measurement._SCALES, flip=0.5)
  for seed in range(24):
    ours = random_crop(example, np.random.default_rng(seed), rules=rules)
    image, label = opencv_loader.transform(
      example.image, example.label, crop, np.random.default_rng(seed)
    )
    assert image.dtype == np.float32 and label.dtype == np.int64
    np.testing.assert_array_equal(ours["label"], label)
    y0, x0, y1, x1 = ours["valid"]
    shown = (image.transpose(1, 2, 0) * opencv_loader._STD + opencv_loader._MEAN) * 255
    difference = np.abs(shown - ours["image"])[y0:y1, x0:x1]
    assert difference.max() < 1.01 and (difference > 0.01).mean() < 0.02
    outside = np.ones((crop, crop), bool)
    outside[y0:y1, x0:x1] = False
    assert not image[:, outside].any()


def test_our_batches_have_labels_and_all_streams(made):
  batches = measurement.our_batches(made / "shards", KIND, streams=("labeled", "unlabeled"))
  batch = next(batches)
  batches.close()
  assert set(batch) == {"labeled", "unlabeled"}
  assert batch["labeled"]["image"].shape == (8, 40, 40, 3)
  assert (batch["labeled"]["label"] < 19).any()


def test_the_ratio_is_that_of_the_medians():
  text = measurement.report("made", KIND, {"ours": [0.1, 0.01, 0.01], "torch": [0.08, 0.08, 9.0]})
  assert "100.0 images/s per core" in text and "12.5 images/s per core" in text
  assert text.splitlines()[1].endswith("ratio 8.0")


def test_wrong_options_are_named(capsys):
  with pytest.raises(SystemExit):
    measurement.main(["--rounds=0"])
  assert "--rounds: '0': write a whole number from 1 on" in capsys.readouterr().err
