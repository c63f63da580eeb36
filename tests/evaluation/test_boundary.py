import numpy as np
import pytest
from scipy import ndimage

from semiseg_jax.evaluation import boundary

CLASSES = 4


def patches(size, seed, values=(0, 1, 2, 3)):
  """Labels of a few blobs, uint8 [H,W]."""
  noise = np.random.default_rng(seed).normal(size=(len(values), *size))
  blobs = [ndimage.gaussian_filter(x, min(size) / 8) for x in noise]
  return np.array(values, np.uint8)[np.argmax(blobs, 0)]


def by_class(label, prediction, d):
  """The published definition, mask by mask: pad with 0, erode d times by 3x3, subtract."""

  def contour(mask):
    inner = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), d)[1:-1, 1:-1]
    return mask & ~inner

  counts = np.zeros((3, CLASSES), int)
  labeled = label < CLASSES
  for c in range(CLASSES):
    T, P = contour((label == c) & labeled), contour((prediction == c) & labeled)
    counts[:, c] = (T & P).sum(), T.sum(), P.sum()
  return counts


@pytest.mark.parametrize(
  "size, share", [((48, 64), 0.02), ((37, 90), 0.05), ((5, 200), 0.02), ((1, 9), 0.02), ((8, 8), 1)]
)
def test_counts_are_those_of_the_published_definition_class_by_class(size, share):
  for seed in range(3):
    label = patches(size, seed, (0, 1, 2, 3, 255, 9))  # two of these are no class
    prediction = np.where(patches(size, 9, (0, 1)) == 0, patches(size, seed), 2).astype(np.uint8)
    d = max(1, round(share * np.hypot(*size)))
    counts = boundary.count_boundary(label, prediction, CLASSES, share)
    np.testing.assert_array_equal(counts, by_class(label, prediction, d))


def test_counts_in_parts_are_those_of_the_whole(monkeypatch):
  label, prediction = patches((61, 40), 0, (0, 1, 2, 3, 255)), patches((61, 40), 1)
  whole = boundary.count_boundary(label, prediction, CLASSES, 0.05)
  monkeypatch.setattr(boundary, "_PIXELS", 7 * 40)
  np.testing.assert_array_equal(boundary.count_boundary(label, prediction, CLASSES, 0.05), whole)


def test_a_square_that_is_moved_by_a_pixel():
  label, prediction = np.zeros((2, 100, 100), np.uint8)
  label[40:60, 40:60], prediction[40:60, 41:61] = 1, 1
  assert boundary.distance((100, 100)) == 3
  counts = boundary.count_boundary(label, prediction, 2)
  # Rings of 20^2 - 14^2 pixels; they meet in the top and bottom bands, 3 rows of 19 each, and at
  # the sides in 14 rows of 2 pixels each.
  np.testing.assert_array_equal(counts[:, 1], [2 * 3 * 19 + 2 * 14 * 2, 204, 204])


def test_pixels_without_a_label_cost_a_right_prediction_nothing():
  truth = patches((60, 60), 3)
  label = truth.copy()
  label[20:40, 10:50] = 255
  hit, labels, predicted = boundary.count_boundary(label, truth, CLASSES)
  np.testing.assert_array_equal(hit, labels)
  np.testing.assert_array_equal(hit, predicted)
  assert hit.all()
