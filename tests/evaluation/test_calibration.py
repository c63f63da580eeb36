import jax
import numpy as np
import pytest

from semiseg_jax.evaluation import calibration
from semiseg_jax.evaluation.protocol import Protocol


def by_pixel(label, prediction, p, classes):
  """ECE and the counts of its bins, pixel by pixel."""
  bins = np.zeros((3, 15))
  for t, k, q in zip(label.ravel(), prediction.ravel(), p.ravel()):
    if t < classes:
      m = next(m for m in range(15) if q <= (m + 1) / 15)
      bins[:, m] += 1, t == k, q
  error = sum(n / bins[0].sum() * abs(r / n - s / n) for n, r, s in bins.T if n)
  return error, bins


def noise(seed=0, size=(23, 31), classes=4):
  rng = np.random.default_rng(seed)
  label = rng.choice([0, 1, 2, 3, 7, 255], size).astype(np.uint8)
  p = rng.uniform(size=size).astype(np.float32)
  right = (rng.uniform(size=size) < p) & (label < classes)
  return label, np.where(right, label, rng.integers(0, 4, size)).astype(np.uint8), p


def test_the_error_is_that_of_its_definition():
  label, prediction, p = noise()
  p[0, :4] = 0, 1, 1, 0
  found = calibration.count(label, prediction, p, 4)
  error, bins = by_pixel(label, prediction, p, 4)
  np.testing.assert_allclose(found.bins, bins, rtol=1e-12)
  fields = calibration.describe(found)
  assert fields["ece"] == pytest.approx(error, rel=1e-12)
  assert fields["pixels"] == bins[0].astype(int).tolist() and fields["upper_ends"][-1] == 1
  np.testing.assert_allclose(fields["accuracy"], bins[1] / bins[0])


def test_a_sure_network_that_is_half_right_is_wrong_by_a_half():
  label = np.tile(np.array([0, 1], np.uint8), (2, 4))
  found = calibration.count(label, np.zeros_like(label), np.ones(label.shape, np.float32), 2)
  fields = calibration.describe(found)
  assert fields["ece"] == 0.5 and fields["pixels"][-1] == 16 and fields["accuracy"][0] is None
  assert "ECE 50.00" in calibration.format_lines(found)[0]


def test_counts_add_over_parts_and_pictures(monkeypatch):
  pictures = [noise(seed) for seed in range(2)]
  whole = calibration.count(*(np.concatenate(x) for x in zip(*pictures)), 4)
  one, two = (calibration.count(*picture, 4) for picture in pictures)
  monkeypatch.setattr(calibration, "_PIXELS", 100)
  for found in (one + two, calibration.count(*(np.concatenate(x) for x in zip(*pictures)), 4)):
    np.testing.assert_allclose(found.bins, whole.bins, rtol=1e-12)
    np.testing.assert_array_equal(found.levels, whole.levels)


def test_confusion_of_what_reaches_a_threshold():
  label, prediction, p = noise()
  p[:2] = np.float32(0.95)
  above = calibration.count(label, prediction, p, 4).above
  for threshold, counts in zip(calibration.THRESHOLDS, above, strict=True):
    chosen = (p >= np.float32(threshold)) & (label < 4)
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (label[chosen], prediction[chosen]), 1)
    np.testing.assert_array_equal(counts, expected)


@jax.jit
def forward(images, valid):
  return images[..., :3].astype(jax.numpy.float32) / 40


@pytest.mark.parametrize("network, border", [("0", "cut"), ("mean", "shifted")])
def test_probabilities_of_overlapping_windows(network, border):
  """Labels are those without; p is the softmax of the mean logits, or the mean probability."""
  how = Protocol("slide", (8, 8), (5, 5), 3, network, border=border)
  seen = forward if network == "0" else lambda *x: jax.nn.softmax(forward(*x))
  image = np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)
  label, p = calibration.segmenter(how, seen, 3)(image)
  np.testing.assert_array_equal(label, how.segmenter(seen, 3)(image))
  # Every window sees the same of a pixel, so that means are what one window gives.
  expected = np.asarray(jax.nn.softmax(forward(image, None))).max(-1)
  np.testing.assert_allclose(p, expected, rtol=1e-5)
  assert p.dtype == np.float32 and len(np.unique(label)) == 3


def test_a_gate_chooses_labels_and_leaves_probabilities():
  scores = np.log(np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.3, 0.6]]], np.float32))
  twice = np.concatenate([2 * scores, np.full((2, 1, 1), 2, np.float32)], -1)  # two windows
  kept = np.array([False, True, True])
  (label, p), finite = calibration.make_classify(True)(twice, kept, "softmax_zero")
  np.testing.assert_array_equal(label, [[1], [2]])
  np.testing.assert_allclose(p, [[0.2], [0.6]], rtol=1e-6)
  assert finite and not calibration.make_classify(False)(twice * np.nan)[1]
