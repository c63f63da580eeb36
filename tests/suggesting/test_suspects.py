"""Suspicious labels: known thresholds, and wrong labels that were planted."""

import numpy as np

from semiseg_jax.labels import IGNORE
from semiseg_jax.suggesting.suspects import Belief, Judge


def _belief(*pairs, classes=3):
  belief = Belief(classes)
  for label, p in pairs:
    belief.add(label, p)
  return belief


def test_thresholds_are_the_mean_own_probabilities():
  label = np.array([[0, 0, 1, IGNORE]], np.uint8)
  p = np.array([[(0.8, 0.2, 0), (0.4, 0.6, 0), (0.3, 0.7, 0), (0, 0, 1)]], np.float32)
  belief = _belief((label, p))
  np.testing.assert_allclose(belief.thresholds, (0.6, 0.7, np.inf), rtol=1e-6)
  np.testing.assert_allclose(belief.agreement, 2 / 3)
  belief.add(label, p, valid=np.array([[True, False, True, True]]))
  np.testing.assert_allclose(belief.thresholds, (2 / 3, 0.7, np.inf), rtol=1e-6)


def test_a_contradiction_must_be_confident_for_its_class():
  """0.6 suffices for class 1, of which the network is never sure, and not for class 0."""
  label = np.array([[0, 0, 1, 1]], np.uint8)
  p = np.array([[(0.9, 0.1, 0), (0.9, 0.1, 0), (0.5, 0.5, 0), (0.5, 0.5, 0)]], np.float32)
  judge = Judge(_belief((label, p)))
  seen = np.array([[0, 1, 2, IGNORE]], np.uint8)
  p = np.array([[(0.4, 0.6, 0), (0.6, 0.4, 0), (0, 0.4, 0.6), (0, 1, 0)]], np.float32)
  np.testing.assert_array_equal(judge.suggested(seen, p), [[1, 255, 255, 255]])


def _scene(seed, planted=None):
  """Three stripes of classes, and a network that is unsure of some pixels and of every border."""
  rng = np.random.default_rng(seed)
  truth = np.repeat(np.arange(3, dtype=np.uint8), 20)[:, None].repeat(80, 1)
  p = np.eye(3)[truth] * 0.8 + 0.2 / 3
  weak = rng.random(truth.shape) < 0.1
  p[weak] = (0.4, 0.35, 0.25)
  label = truth.copy()
  label[20:21] = 0  # the border is labeled a pixel lower
  if planted:
    y, x, side, class_ = planted
    label[y : y + side, x : x + side] = class_
  return label, p.astype(np.float32)


def test_planted_labels_come_first_and_borders_do_not_come():
  scenes = [_scene(seed) for seed in range(12)]
  scenes[4] = _scene(4, (30, 10, 9, 2))  # of class 1
  scenes[9] = _scene(9, (5, 60, 6, 1))  # of class 0
  judge = Judge(_belief(*scenes))
  found = {i: judge.regions(*scene) for i, scene in enumerate(scenes)}
  scores = {i: sum(region.score for region in regions) for i, regions in found.items()}
  assert sorted(scores, key=scores.get)[-2:] == [9, 4]
  first = found[4][0]
  assert (first.label, first.suggested) == (2, 1) and first.pixels > 0.8 * 81
  assert first.box == (10, 30, 9, 9)
  assert first.p_suggested > 0.8 and first.p_label < 0.1 and first.percentile < 20
  assert [region.box for region in found[9]] == [(60, 5, 6, 6)]
  assert not any(regions for i, regions in found.items() if i not in (4, 9))


def test_regions_of_one_picture_add_up_in_bits_per_pixel():
  """4 x 4 of 16 x 16 pixels are labeled wrong, as many are believed less: 32 / 256, 3 bits each."""
  label = np.zeros((16, 16), np.uint8)
  p = np.tile(np.array((0.9, 0.1, 0), np.float32), (16, 16, 1))
  p[0] = (0.01, 0.04, 0.95)  # a row: too thin for a region
  p[4:8, 4:8] = (0.05, 0.95, 0)
  other = np.ones((16, 16), np.uint8), np.tile(np.array((0.1, 0.9, 0), np.float32), (16, 16, 1))
  (region,) = Judge(_belief((label, p), other)).regions(label, p)
  np.testing.assert_allclose(region.score, 3 * 16 / 256)
  np.testing.assert_allclose(region.percentile, 100 / 8)
  assert region.box == (4, 4, 4, 4) and region.pixels == 16
