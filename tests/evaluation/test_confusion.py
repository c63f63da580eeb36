import numpy as np
import pytest

from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.confusion import confusion, count_picture, scores


def counted_by_hand(label, prediction, num_classes):
  counts = np.zeros((num_classes, num_classes), int)
  for truth, predicted in zip(label.ravel(), prediction.ravel()):
    if truth < num_classes:
      counts[truth, predicted] += 1
  return counts


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 32), (33, 32)])
def test_counts(size):
  rng = np.random.default_rng(0)
  label = rng.choice([0, 1, 2, 3, 4, 255], size).astype(np.uint8)
  prediction = rng.integers(0, 4, size).astype(np.uint8)
  expected = counted_by_hand(label, prediction, 4)
  np.testing.assert_array_equal(confusion(label, prediction, 4), expected)
  counts = count_picture(label, prediction, 4)
  np.testing.assert_array_equal(counts, expected)
  assert counts.dtype == np.int64


def test_negative_labels_are_not_counted():
  label, prediction = np.array([-1, -3, 1]), np.array([1, 1, 0])
  np.testing.assert_array_equal(confusion(label, prediction, 2), [[0, 0], [1, 0]])


def test_counts_beyond_what_float32_holds():
  side = 4100  # 16.8 million pixels, more than 2**24
  label = np.zeros((side, side), np.uint8)
  assert count_picture(label, label, 2)[0, 0] == side * side


def test_scores_of_a_worked_example():
  # Class 3 is absent from truth and prediction; class 2 is only predicted.
  counts = np.array([[6, 2, 0, 0], [1, 3, 4, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
  result = scores(counts)
  np.testing.assert_allclose(result["iou"], [6 / 9, 3 / 10, 0, np.nan])
  np.testing.assert_allclose(result["recall"], [6 / 8, 3 / 8, np.nan, np.nan])
  np.testing.assert_allclose(result["precision"], [6 / 7, 3 / 5, 0, np.nan])
  np.testing.assert_allclose(result["f1"], [12 / 15, 6 / 13, 0, np.nan])
  np.testing.assert_allclose(result["mean_f1"], (12 / 15 + 6 / 13 + 0) / 3)
  np.testing.assert_allclose(result["miou"], (6 / 9 + 3 / 10 + 0) / 3)
  np.testing.assert_allclose(result["miou_without_first"], (3 / 10 + 0) / 2)
  np.testing.assert_allclose(result["pixel_accuracy"], 9 / 16)
  np.testing.assert_allclose(result["mean_class_accuracy"], (6 / 8 + 3 / 8) / 2)
  np.testing.assert_allclose(result["frequency_weighted_iou"], 8 / 16 * 6 / 9 + 8 / 16 * 3 / 10)
  assert result["pixels"] == 16


def test_scores_of_totals_beyond_int32():
  counts = np.array([[3_000_000_000, 0], [1_000_000_000, 0]], np.int64)
  np.testing.assert_allclose(scores(counts)["iou"], [0.75, 0])


def test_errors():
  with pytest.raises(DataError, match="no pixel"):
    scores(np.zeros((3, 3), int))
  with pytest.raises(ValueError, match="square"):
    scores(np.zeros((3, 3)))
  with pytest.raises(ValueError, match="differ"):
    count_picture(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
  with pytest.raises(ValueError, match="not one of 2"):
    count_picture(np.zeros((2, 2), np.uint8), np.full((2, 2), 2, np.uint8), 2)
