"""K-center greedy against loops, and the rules of ranking."""

import numpy as np
import pytest

from semiseg_jax.suggesting import centers, ranking
from semiseg_jax.suggesting.ranking import Scores


def _features(count, seed=0, width=5):
  return centers.unit(np.random.default_rng(seed).normal(size=(count, width)))


def _k_center_by_loops(features, labeled, count):
  """Each time the row farthest from its nearest center, all distances anew."""
  chosen, apart = [], []
  for _ in range(count):
    known = [*labeled, *features[chosen]]
    near = [min(np.linalg.norm(row - center) for center in known) for row in features]
    chosen.append(int(np.argmax(near)))
    apart.append(max(near))
  return chosen, apart


@pytest.mark.parametrize("labeled", [1, 7])
def test_k_center(labeled, monkeypatch):
  monkeypatch.setattr(centers, "_BLOCK", 4)  # several, the last not full
  features, known = _features(30), _features(labeled, 1)
  expected, far = _k_center_by_loops(features, known, 12)
  rows, apart = centers.k_center(features, centers.nearest(features, known), 12)
  assert rows == expected
  np.testing.assert_allclose(apart, far, atol=1e-3)


def test_without_a_center_the_first_row_is_one():
  features = _features(6)
  rows, apart = centers.k_center(features, centers.nearest(features, features[:0]), 3)
  expected, far = _k_center_by_loops(features, features[:1], 2)
  assert rows == [0, *expected] and apart[0] == np.inf
  np.testing.assert_allclose(apart[1:], far, atol=1e-3)


def _scores(entropy, disagreement=None, features=None, labeled=(), networks=2):
  entropy = np.array(entropy, float)
  other = np.zeros_like(entropy) if disagreement is None else np.array(disagreement, float)
  features = _features(len(entropy)) if features is None else features
  near = centers.nearest(features, features[list(labeled)])
  ids = tuple(f"p{i}" for i in range(len(entropy)))
  return Scores(ids, np.stack((entropy, other, entropy / 2), 1), features, near, networks)


def _chosen(scores, number, by="combined"):
  return [one.index for one in ranking.suggest(scores, number, by)]


def test_measures_take_the_highest_in_order():
  scores = _scores((0.3, 0.9, 0.1, 0.5), disagreement=(4, 3, 2, 1))
  assert _chosen(scores, 3, "entropy") == [1, 3, 0] == _chosen(scores, 3, "margin")
  assert _chosen(scores, 9, "disagreement") == [0, 1, 2, 3]


@pytest.mark.parametrize("by", ranking.RULES)
def test_copies_are_not_suggested(by):
  """Picture 5 is a copy of 0, the most uncertain one; 6 is one of the labeled picture."""
  features = _features(8)
  features[5] = features[0]
  labeled = features[6]
  scores = _scores((9, 1, 2, 3, 4, 8, 7, 5), (9, 1, 2, 3, 4, 8, 7, 5), features)
  scores = ranking.dataclasses.replace(scores, diversity=centers.nearest(features, labeled[None]))
  found = _chosen(scores, 8, by)
  assert sorted(found) == [0, 1, 2, 3, 4, 7]


def test_combined_chooses_diverse_ones_of_the_most_uncertain():
  """Of 40 pictures half are candidates; among them two clusters, one of them labeled."""
  rng = np.random.default_rng(0)
  near, far = np.eye(6)[:2]
  features = near + 0.05 * rng.normal(size=(40, 6))
  features[[3, 30]] = far + 0.05 * rng.normal(size=(2, 6))  # 3 uncertain, 30 not
  features = centers.unit(features)
  entropy = np.linspace(1, 0, 40)
  scores = _scores(entropy, entropy, features, labeled=[39])
  found = _chosen(scores, 4)
  assert found[0] == 3 and max(found) < 20
  assert _chosen(scores, 2, "diversity")[0] in (3, 30)


def test_uncertainty_is_the_mean_of_ranks_and_of_one_network_that_of_entropy():
  scores = _scores((0.1, 0.2, 0.3), disagreement=(300, 100, 200))
  np.testing.assert_allclose(scores.uncertainty, (0.5, 0.25, 0.75))
  alone = ranking.dataclasses.replace(scores, networks=1)
  np.testing.assert_allclose(alone.uncertainty, (0, 0.5, 1))
  assert "disagreement" in ranking.suggest(scores, 1)[0].reason
  assert "disagreement" not in ranking.suggest(alone, 1)[0].reason


def test_so_many_copies_that_candidates_run_out():
  features = np.repeat(_features(1, 3), 40, 0)
  features[36:] = _features(4, 4)
  scores = _scores(np.linspace(1, 0, 40), np.linspace(1, 0, 40), features)
  assert sorted(_chosen(scores, 5)) == [0, 36, 37, 38, 39]
