"""The rules that choose labeled pictures."""

import numpy as np
import pytest

from data_prep import split_rules
from tests.golden_files import golden


def test_every_is_the_published_rule():
  """Sizes and nesting of the published lists follow from their number of pictures alone."""
  np.testing.assert_array_equal(split_rules.every(10, 4), [0, 4, 8])
  lists, u2pl = golden("cps_splits"), golden("u2pl_splits")
  count = len(lists["cityscapes_train_order"])
  sizes = sorted(len(v) for k, v in u2pl.items() if k.startswith("city_") and v.ndim)
  halves = [split_rules.every(count, 2 ** (len(sizes) - i)) for i in range(len(sizes))]
  assert [len(positions) for positions in halves] == sizes
  for small, large in zip(halves, halves[1:]):
    assert set(small) < set(large)


def test_shuffled_follows_the_seed():
  order = split_rules.shuffled(500, 3)
  assert sorted(order) == list(range(500))
  np.testing.assert_array_equal(order, split_rules.shuffled(500, 3))
  assert (order != split_rules.shuffled(500, 4)).any() and (order != np.arange(500)).any()


def _pictures(count=400, seed=0):
  """Pixel counts of pictures with classes that are common, half as common, ..., and one ignored."""
  rng = np.random.default_rng(seed)
  chances = np.array([1.0, 0.5, 0.25, 0.1, 0.03, 0.01])
  shown = rng.random((count, len(chances))) < chances
  pixels = shown * rng.integers(1, 2000, shown.shape) * (1 + 9 * chances)
  ignored = rng.integers(0, 50, (count, 1))
  return np.concatenate([pixels.astype(np.int64), ignored], axis=1)


def _distance(pixels, chosen):
  """Chi-square distance of the classes' shares of pictures and of pixels from those of all."""
  total = 0
  for values in (pixels[:, :-1] > 0, pixels[:, :-1] / pixels[:, :-1].sum(1, keepdims=True)):
    whole = values.mean(0)
    total += ((values[chosen].mean(0) - whole) ** 2 / whole).sum()
  return total


@pytest.mark.parametrize("size", [50, 100, 200])
def test_balanced_is_nearer_to_the_whole_than_draws(size):
  pixels = _pictures()
  ours = _distance(pixels, split_rules.balanced(pixels, size))
  drawn = [_distance(pixels, split_rules.shuffled(len(pixels), s)[:size]) for s in range(20)]
  assert ours < np.min(drawn) and ours < np.median(drawn) / 3


def test_balanced_covers_every_class_as_soon_as_it_can():
  pixels = _pictures()
  shown = pixels[:, :-1] > 0
  assert shown.sum(0).min() <= 6
  order = split_rules.balanced(pixels, 12)
  assert shown[order[: shown.shape[1]]].any(0).all()
  rare = shown.sum(0).argmin()
  assert shown[order[0], rare]


def test_balanced_heads_are_nested_and_without_repetition():
  pixels = _pictures()
  order = split_rules.balanced(pixels, len(pixels))
  assert sorted(order) == list(range(len(pixels)))
  np.testing.assert_array_equal(order[:30], split_rules.balanced(pixels, 30))


def test_balanced_by_hand():
  """One class everywhere, two in halves of the pictures: the second choice evens out the first."""
  first, second = [10, 10, 0, 0], [10, 0, 10, 0]
  pixels = np.array([first, first, second, second, second, first])
  order = split_rules.balanced(pixels, 6)
  kinds = np.array([0, 0, 1, 1, 1, 0])[order]
  assert order[0] == 0 and (kinds.reshape(3, 2).sum(1) == 1).all()


def test_balanced_with_an_absent_class_and_blank_labels():
  pixels = np.zeros((5, 4), np.int64)
  pixels[:, 0], pixels[2, :3], pixels[3] = 7, (0, 3, 0), (0, 0, 0, 9)
  order = split_rules.balanced(pixels, 5)
  assert sorted(order) == list(range(5)) and order[0] == 2
