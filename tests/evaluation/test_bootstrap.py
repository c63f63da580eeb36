import numpy as np
import pytest

from semiseg_jax.evaluation import bootstrap
from semiseg_jax.evaluation.confusion import mean_iou, overlaps, scores


def pictures(count, seed=0, classes=3):
  rng = np.random.default_rng(seed)
  right = rng.uniform(0.2, 0.9, (count, 1, 1))
  counts = rng.integers(1, 50, (count, classes, classes)) + right * 400 * np.eye(classes)
  return counts.astype(np.int64)


def test_mean_iou_of_sums_is_that_of_the_scores():
  counts = pictures(7)
  counts[:, 2], counts[:, :, 2] = 0, 0  # an absent class
  pixels = np.stack([overlaps(x) for x in counts])
  assert mean_iou(pixels.sum(0)) == pytest.approx(scores(counts.sum(0))["miou"], abs=1e-12)
  assert np.isnan(mean_iou(np.zeros((2, 3, 4), int))).all()


def test_the_interval_is_that_of_lists_drawn_one_by_one():
  counts = pictures(25)
  counts[3:, 2], counts[3:, :, 2] = 0, 0  # the class is in three pictures
  found = bootstrap.interval(np.stack([overlaps(x) for x in counts]), resamples=4000)
  rng, drawn = np.random.default_rng(5), []
  for _ in range(4000):
    drawn.append(scores(counts[rng.integers(0, 25, 25)].sum(0))["miou"])
  low, high = np.quantile(drawn, [0.025, 0.975])
  width = high - low
  assert found.low == pytest.approx(low, abs=0.08 * width)
  assert found.high == pytest.approx(high, abs=0.08 * width)
  assert found.rare == (2,) and found.pictures == 25


def test_it_follows_from_the_seed_and_not_from_the_parts(monkeypatch):
  pixels = np.stack([overlaps(x) for x in pictures(12)])
  one = bootstrap.interval(pixels)
  assert bootstrap.interval(pixels) == one != bootstrap.interval(pixels, seed=1)
  monkeypatch.setattr(bootstrap, "_AT_A_TIME", 7)
  assert bootstrap.interval(pixels) == one


def test_of_one_picture_there_is_none():
  pixels = np.stack([overlaps(x) for x in pictures(3)])
  pixels[1:] = 0  # without a labeled pixel
  assert bootstrap.interval(pixels) is None
  assert bootstrap.interval(pixels[:0]) is None


def test_equal_pictures_have_an_interval_of_one_point():
  pixels = np.repeat(overlaps(pictures(1)[0])[None], 40, 0)
  found = bootstrap.interval(pixels)
  assert found.low == found.high == pytest.approx(mean_iou(pixels[0]))
