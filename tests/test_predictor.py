"""What a predictor takes and gives, around a network whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semiseg_jax import predict
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import given
from semiseg_jax.evaluation.canvases import Grid
from semiseg_jax.evaluation.windows import Segmenter

CLASSES, COLORS = ("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142))


def _probabilities(images, valid):
  """Class 0 where the first channel is below 100, else class 2; sure to 0.75 and 0.5."""
  low = (images[..., :1] < 100).astype(np.float32)
  return jnp.asarray(low * (0.75, 0.25, 0.0) + (1 - low) * (0.2, 0.3, 0.5), jnp.float32)


def _predictor(gate=None, channels=3):
  make = lambda **how: Segmenter(_probabilities, window=None, num_classes=3, gate=gate, **how)
  sure = lambda: make(probabilities=True)
  return predict.Predictor(make(), classes=CLASSES, colors=COLORS, channels=channels, sure=sure)


@pytest.fixture
def pictures():
  dark, bright = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 200, np.uint8)
  bright[0, 0] = 0
  return dark, bright


def _expected(picture):
  return np.where(picture[..., 0] < 100, 0, 2)


def test_arrays_files_lists_and_batches_give_labels(pictures, tmp_path):
  predictor, (dark, bright) = _predictor(), pictures
  Image.fromarray(bright).save(tmp_path / "b.png")
  for one in (bright, tmp_path / "b.png", str(tmp_path / "b.png"), Image.fromarray(bright),
              jnp.asarray(bright)):  # fmt: skip
    label = predictor(one)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, _expected(bright))
  for many in ([dark, tmp_path / "b.png"], (dark, bright), np.stack([dark, bright]),
               iter([dark, bright])):  # fmt: skip
    found = predictor(many)
    np.testing.assert_array_equal(found, [_expected(dark), _expected(bright)])
  assert predictor([]) == []


def test_gray_pictures_need_no_axis():
  gray = np.array([[0, 200]], np.uint8)
  np.testing.assert_array_equal(_predictor(channels=1)(gray), [[0, 2]])


def test_probabilities_and_confidence(pictures):
  found = _predictor().predict(pictures[1])
  np.testing.assert_array_equal(found.labels, _expected(pictures[1]))
  np.testing.assert_allclose(found.probabilities[0, :2], [[0.75, 0.25, 0], [0.2, 0.3, 0.5]])
  np.testing.assert_allclose(found.confidence[0, :3], [0.75, 0.5, 0.5])
  assert [one.labels.shape for one in _predictor().predict(list(pictures))] == [(4, 5)] * 2


def test_a_gate_takes_probabilities_away_and_the_others_sum_to_one(pictures):
  gate = lambda image: jnp.array([True, True, False])
  gate.rule = "softmax_zero"
  found = _predictor(gate).predict(pictures[1])
  np.testing.assert_allclose(found.probabilities[0, 1], [0.4, 0.6, 0], rtol=1e-6)
  assert found.labels[0, 1] == 1 and found.confidence[0, 1] == pytest.approx(0.6)


@pytest.mark.parametrize(
  "image, said",
  [
    (np.zeros((4, 4, 3), np.float32), "float32.*uint8 from 0 to 255"),
    (np.zeros((4, 4), np.uint8), r"takes pictures \[H,W,3\], this one is \[4, 4, 1\]"),
    (np.zeros((1, 4, 4, 1), np.uint8), r"\[H,W,3\]"),
    (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\] has no pixel"),
    ("absent.png", "absent.png"),
    (None, "NoneType is no picture"),
    ([None], "object"),
  ],
)
def test_what_is_no_picture_is_an_error(image, said):
  with pytest.raises(DataError, match=said):
    _predictor()(image)


def test_pictures_of_twenty_sizes_one_by_one_are_seen_at_three():
  seen = set()

  def forward(images, valid):
    seen.add(images.shape)
    return _probabilities(images, valid)

  segmenter = Segmenter(forward, window=None, grid=Grid((32, 32), 8), num_classes=3)
  predictor = predict.Predictor(segmenter, classes=CLASSES, colors=COLORS, channels=3)
  rng = np.random.default_rng(0)
  for size in rng.integers(20, 80, (20, 2)):
    picture = rng.integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(predictor(picture), _expected(picture))
  assert len(seen) <= 3


def test_a_folder_is_told_what_takes_it(tmp_path):
  with pytest.raises(DataError, match="is a folder: .*predict_folder"):
    given.read(tmp_path, 3)


def test_labels_are_saved_with_their_palette_and_a_legend(tmp_path):
  labels = np.array([[0, 1, 2, 255]], np.uint8)
  _predictor().save(labels, tmp_path / "deep" / "a.png")
  saved = Image.open(tmp_path / "deep" / "a.png")
  assert saved.mode == "P" and saved.text["Classes"] == "0 road\n1 sky\n2 car"
  np.testing.assert_array_equal(np.asarray(saved), labels)
  np.testing.assert_array_equal(np.asarray(saved.convert("RGB"))[0], [*COLORS, (0, 0, 0)])
  legend = np.asarray(Image.open(tmp_path / "deep" / "legend.png"))
  for color in COLORS:
    assert (legend == color).all(-1).sum() > 50


def test_files_of_other_values_than_the_training_data_are_refused(tmp_path):
  """A range of 16-bit pictures says nothing of those of 8 bits, unless another one is given."""
  reading = {"value_range": [0, 4000], "values": "integers of more than 8 bits"}
  about = {"name": "a", "classes": CLASSES, "reading": reading}
  predictor = _predictor(channels=1)
  predictor.about = about
  Image.fromarray(np.full((4, 5), 3000, np.uint16)).save(tmp_path / "deep.png")
  Image.fromarray(np.full((4, 5), 190, np.uint8)).save(tmp_path / "flat.png")
  assert (predictor(tmp_path / "deep.png") == 2).all()
  with pytest.raises(DataError, match="flat.png: 8 bits a channel .uint8., which would stay as"):
    predictor(tmp_path / "flat.png")
  (tmp_path / "in").mkdir()
  (tmp_path / "flat.png").rename(tmp_path / "in" / "flat.png")
  given_range = {"value_range": (0, 255)}
  assert predict.predict_folder(predictor, tmp_path / "in", tmp_path / "a")[0].count("flat.png")
  assert not predict.predict_folder(predictor, tmp_path / "in", tmp_path / "b", **given_range)
