"""Average precision, recall and precision of a classifier, counted by hand."""

import numpy as np

from semiseg_jax.evaluation import image_labels
from semiseg_jax.evaluation.image_labels import Classified, average_precision


def test_average_precision_by_hand():
  p = np.array([0.9, 0.8, 0.7, 0.1])
  present = np.array([True, False, True, False])
  assert average_precision(p, present) == (1 / 1 + 2 / 3) / 2
  assert average_precision(p, ~present) == (1 / 2 + 2 / 4) / 2
  assert average_precision(p, present | True) == 1
  assert np.isnan(average_precision(p, present & False))


def test_equal_probabilities_share_a_threshold_whatever_their_order():
  p = np.array([0.5, 0.5, 0.5, 0.9])
  for present in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]):
    assert average_precision(p, np.array(present, bool)) == 1 / 4
  assert average_precision(p, np.array([1, 1, 0, 0], bool)) == 2 / 4


def test_scores_and_report():
  probabilities = np.array([[0.9, 0.1, 0.3], [0.2, 0.6, 0.1], [0.1, 0.3, 0.1]])
  present = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
  result = Classified(probabilities, present)
  found = image_labels.scores(result, threshold=0.2)
  np.testing.assert_allclose(found["ap"], [1, (1 / 1 + 2 / 3) / 2, np.nan])
  np.testing.assert_allclose(found["map"], (1 + 5 / 6) / 2)
  np.testing.assert_allclose(found["recall"], [1, 1 / 2, np.nan])
  np.testing.assert_allclose(found["precision"], [1, 1 / 2, 0])
  np.testing.assert_array_equal(found["pictures"], [2, 2, 0])
  fields = image_labels.describe(result, ("road", "sky", "car"))
  assert fields["average_precision"]["car"] is None and fields["pictures"] == 3
  text = image_labels.format_report(
    result, ("road", "sky", "car"), title="val", places={"result": "x.json"}
  )
  assert "mean AP   91.67" in text and "x.json" in text
