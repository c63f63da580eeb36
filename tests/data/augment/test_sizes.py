"""The laws of scaled sizes: every published set, range and rounding."""

import collections

import numpy as np
import pytest

from semiseg_jax.data.augment import sizes

DRAWS = 6000


def _draw(law, size, scales, base=0, draws=DRAWS, seed=0):
  rng = np.random.default_rng(seed)
  return np.array([law(size, rng, scales, base) for _ in range(draws)])


@pytest.mark.parametrize(
  "law, rule", [(sizes.factor_truncated, int), (sizes.factor_rounded, round)]
)
@pytest.mark.parametrize(
  "scales",
  [
    (0.5, 0.75, 1.0, 1.5, 1.75, 2.0),
    tuple(k / 10 for k in range(5, 17)),
    tuple(k / 4 for k in range(2, 9)),
  ],
)
def test_each_factor_is_equally_likely(law, rule, scales):
  found = collections.Counter(map(tuple, _draw(law, (375, 501), scales)))
  assert set(found) == {(rule(375 * s), rule(501 * s)) for s in scales}
  expected = DRAWS / len(scales)
  assert all(abs(count - expected) < 5 * expected**0.5 for count in found.values())


def test_roundings_differ():
  assert (_draw(sizes.factor_truncated, (375, 5), (0.5,), draws=1) == [187, 2]).all()
  assert (_draw(sizes.factor_rounded, (375, 7), (0.5,), draws=1) == [188, 4]).all()  # to even
  assert (_draw(sizes.factor_rounded, (1, 1), (0.3,), draws=1) == [1, 1]).all()


@pytest.mark.parametrize(
  "size, scales, base, ends",
  [
    ((375, 500), (0.5, 2.0), 0, (250, 1000)),  # UniMatch: the picture's own long side
    ((1024, 2048), (0.5, 2.0), 0, (1024, 4096)),
    ((500, 333), (0.5, 2.0), 400, (200, 800)),  # CAC, ST++: the same for every picture
    ((375, 500), (0.8, 2.0), 400, (320, 800)),
    ((100, 201), (0.5, 2.0), 0, (100, 402)),
    ((1024, 2048), (0.8, 2.0), 2048, (1638, 4096)),
  ],
)
def test_the_long_side_is_uniform_and_the_short_one_keeps_the_ratio(size, scales, base, ends):
  found = _draw(sizes.long_side, size, scales, base, draws=20000)
  tall = size[0] > size[1]
  long, short = (found[:, 0], found[:, 1]) if tall else (found[:, 1], found[:, 0])
  assert (long.min(), long.max()) == ends or ends[1] - ends[0] > 2000
  assert ends[0] <= long.min() and long.max() <= ends[1]
  low, high = ends
  assert abs(long.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / len(long) ** 0.5
  quarters = np.histogram(long, bins=4, range=(low, high + 1))[0] / len(long)
  np.testing.assert_allclose(quarters, 0.25, atol=0.015)
  expected = [int(min(size) * n / max(size) + 0.5) for n in long.tolist()]
  np.testing.assert_array_equal(short, expected)


def test_of_a_square_the_width_is_the_long_side():
  found = _draw(sizes.long_side, (64, 64), (0.5, 2.0), draws=50)
  assert (found[:, 0] == found[:, 1]).all()


def test_factor_and_aspect_of_contrastiveseg():
  found = _draw(sizes.factor_and_aspect, (1001, 2003), (0.5, 2.0), draws=20000)
  down, across = found[:, 0] / 1001, found[:, 1] / 2003
  scale, aspect = (down * across) ** 0.5, across / down
  assert 0.499 < scale.min() < 0.51 and 1.99 < scale.max() <= 2.0
  assert 0.897 < aspect.min() < 0.902 and 1.098 < aspect.max() < 1.103
  assert abs(scale.mean() - 1.25) < 0.01 and abs(scale.std() - 1.5 / 12**0.5) < 0.006
  assert abs(aspect.mean() - 1.0) < 0.002 and abs(aspect.std() - 0.2 / 12**0.5) < 0.002
  assert abs(np.corrcoef(scale, aspect)[0, 1]) < 0.03


def test_sides_that_are_multiples_of_64_scale_by_64ths():
  found = _draw(sizes.factor_and_aspect, (1024, 2048), (0.5, 2.0), draws=3000)
  assert (found[:, 0] % 16 == 0).all() and (found[:, 1] % 32 == 0).all()
  exact = _draw(sizes.factor_and_aspect, (64 * 1000 + 1, 64 * 1000 + 1), (0.5, 2.0), draws=3000)
  np.testing.assert_allclose(found / [1024, 2048], exact / 64001, atol=1 / 128 + 1e-4)
