"""Which labels are kept, on confidences that can be counted by hand."""

import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import kept_labels

CLASSES = ("road", "sky", "car=van")


def _values(label, confidence):
  c = np.asarray(confidence, float)
  return {
    "label": np.array([label], np.uint8),
    "confidence": np.rint(255 * c)[None].astype(np.uint8),
    "doubt": (1 - c)[None].astype(np.float16),
    "top_classes": np.array([label], np.uint8)[..., None],
  }


def _kept(found, rule, place):
  return {key: v for key, v in kept_labels.kept(found, rule, 3, place)}


def test_thresholds_of_classes(tmp_path):
  rule = kept_labels.rule(["0.5", "sky=0.9", "car=van=0.2"], None, CLASSES)
  assert rule.thresholds == (0.5, 0.9, 0.2) and rule.as_dict() == {"threshold": [0.5, 0.9, 0.2]}
  values = _values([0, 0, 1, 1, 2, 255], [0.49, 0.5, 0.85, 0.95, 0.25, 0])
  found = _kept([("a", values)], rule, tmp_path)["a"]
  assert found["label"].tolist() == [[255, 0, 255, 1, 2, 255]]
  assert found["confidence"].tolist() == [[0, 128, 0, 242, 64, 0]]
  assert found["top_classes"][0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]  # soft labels stay
  assert "doubt" not in found


def test_a_share_is_of_each_class_over_all_pictures(tmp_path):
  """Six pixels of class 0, three of class 1; what 8 bits do not tell apart is ranked."""
  first = _values([0, 0, 0, 1, 255], [0.9999, 0.9995, 0.3, 0.2, 0.0])
  second = _values([0, 0, 0, 1, 1], [0.9991, 0.999, 0.1, 0.4, 0.3])
  rule = kept_labels.rule((), 0.5, CLASSES)
  found = _kept([("a", first), ("b", second)], rule, tmp_path)
  assert found["a"]["label"].tolist() == [[0, 0, 255, 255, 255]]
  assert found["b"]["label"].tolist() == [[0, 255, 255, 1, 1]]  # ceil(3 / 2) of class 1
  assert found["a"]["confidence"].tolist() == [[255, 255, 0, 0, 0]]
  assert list(tmp_path.iterdir()) == []
  everything = _kept([("b", second)], kept_labels.rule((), 1.0, CLASSES), tmp_path)["b"]
  assert everything["label"].tolist() == [[0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
  "threshold, share, said",
  [
    (["0.5"], 0.5, "give one of them"),
    ((), 0.0, "--keep_share 0.0: the share"),
    ((), float("nan"), "above 0 to 1"),
    (["bus=0.5"], None, "no class 'bus'; there are road, sky"),
    (["1.5"], None, "--threshold 1.5: a confidence from 0 to 1"),
    (["sky=x"], None, "--threshold sky=x"),
    (["nan"], None, "from 0 to 1"),
  ],
)
def test_impossible_rules(threshold, share, said):
  with pytest.raises(ConfigError, match=said):
    kept_labels.rule(threshold, share, CLASSES)


def test_nothing_given_keeps_all(tmp_path):
  values = _values([0, 1], [0.0, 0.1])
  assert _kept([("a", values)], kept_labels.ALL, tmp_path)["a"]["label"].tolist() == [[0, 1]]
