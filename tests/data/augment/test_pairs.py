"""Overlapping crops: the recorded draws of the reference, and what overlaps on made pictures."""

import numpy as np
import pytest

from semiseg_jax.data.augment.crops import Rules
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.augment.pairs import draw_origins, random_pair
from semiseg_jax.data.records import Example, Record, encode_record
from tests.golden_files import golden


class Recorded:
  """Gives recorded draws and checks the bounds of each: long side, x1, y1, x2, y2, ...; coins."""

  def __init__(self, integers, coins):
    self.left, self.coins = list(integers), list(coins)

  def integers(self, low, high, endpoint):
    (expected, value), *self.left = self.left
    assert endpoint and (low, high) == expected
    return value

  def random(self):
    return self.coins.pop(0)


def _recorded(g, i):
  x, y = (0, g["xmax"][i]), (0, g["ymax"][i])
  draws = g["draws"][i][: g["tries"][i]]
  bounded = [((g["lo"][i], g["hi"][i]), g["long"][i]), (x, g["x1"][i]), (y, g["y1"][i])]
  for x2, y2 in draws:
    bounded += [(x, x2), (y, y2)]
  return Recorded(bounded, g["floats"][i])


def _rules(crop, scales=(0.8, 2.0), base=160, **more):
  return Rules(FAMILIES["cac"], (crop, crop), scales, 0.5, base_size=base, **more)


def _corners(geometry, crop):
  """(first, end) of the overlap in each crop, rows before columns, as the page states them."""
  dy, dx, vh, vw = (int(v) for v in geometry[:4])
  first = [max(0, dy), max(0, dx), min(crop, crop + dy, vh), min(crop, crop + dx, vw)]
  second = [max(0, -dy), max(0, -dx), min(crop, crop - dy, vh), min(crop, crop - dx, vw)]
  return first, second


def _parts(prefix):
  g = golden("cac_crops")
  return {k.removeprefix(prefix): v for k, v in g.items() if k.startswith(prefix)}


@pytest.mark.parametrize("prefix", ["voc_", "small_"])
def test_recorded_draws_give_the_recorded_geometry(prefix):
  g = _parts(prefix)
  crop, base = (int(n) for n in g["crop_base"])
  for i, size in enumerate(g["img"]):
    draws = _recorded(g, i)
    picture = Example("p", np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8))
    pair = random_pair(picture, draws, rules=_rules(crop, base=base))
    assert not draws.left and not draws.coins
    dy, dx, vh, vw, *flips = pair["geometry"].tolist()
    assert (dx, dy) == (g["x2"][i] - g["x1"][i], g["y2"][i] - g["y1"][i])
    assert [vh, vw] == [8 * (n // 8) for n in g["res"][i].tolist()]
    assert flips == g["flip"][i].tolist()
    (y0, x0, y1, x1), (v0, u0, v1, u1) = _corners(pair["geometry"], crop)
    assert [y0, x0, y1, x1] == [*g["ul1"][i], *g["br1"][i]]
    assert [v0, u0, v1, u1] == [*g["ul2"][i], *g["br2"][i]]


def test_recorded_draws_give_the_recorded_label_crops():
  g = _parts("small_")
  crop, base = (int(n) for n in g["crop_base"])
  samples = [i for i in range(len(g["img"])) if f"label_in_{i}" in g]
  assert samples
  for i in samples:
    label = g[f"label_in_{i}"]
    picture = Example("p", np.zeros((*label.shape, 3), np.uint8), label)
    pair = random_pair(picture, _recorded(g, i), rules=_rules(crop, base=base))
    np.testing.assert_array_equal(pair["label"], g[f"labels_out_{i}"][0])
    np.testing.assert_array_equal(pair["label_2"], g[f"labels_out_{i}"][1])


def _picture(height=120, width=150):
  rng = np.random.default_rng(3)
  small = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
  return Example("p", small, rng.integers(0, 19, (height, width), dtype=np.uint8))


def _overlaps(pair, crop):
  """The overlap of both un-mirrored crops: image and label of crop 1, then of crop 2."""
  corners = _corners(pair["geometry"], crop)
  for (y0, x0, y1, x1), suffix, flip in zip(corners, ("", "_2"), pair["geometry"][4:]):
    step = -1 if flip else 1
    for field in ("image", "label"):
      yield pair[field + suffix][:, ::step][y0:y1, x0:x1]


@pytest.mark.parametrize("seed", range(12))
def test_the_overlap_shows_the_same_pixels(seed):
  picture, crop = _picture(), 64
  record = Record(encode_record("p", picture.image, picture.label))
  pair = random_pair(picture, np.random.default_rng(seed), rules=_rules(crop))
  image, label, image_2, label_2 = _overlaps(pair, crop)
  assert image.size
  np.testing.assert_array_equal(label, label_2)
  difference = np.abs(image.astype(int) - image_2)  # two windows, two roundings of the weights
  assert difference.max() <= 1 and (difference > 0).mean() < 0.02
  again = random_pair(record, np.random.default_rng(seed), rules=_rules(crop))
  for field, value in pair.items():
    np.testing.assert_array_equal(value, again[field])


def test_padding_is_at_the_end_with_the_mean_and_ignored():
  picture = Example("p", np.full((40, 60, 3), 9, np.uint8), np.zeros((40, 60), np.uint8))
  rules = _rules(64, scales=(0.5, 0.5), base=120, fill=(124, 116, 104))
  pair = random_pair(picture, np.random.default_rng(0), rules=rules)
  assert pair["geometry"][:4].tolist() == [0, 0, 40, 56]
  for suffix, flip in zip(("", "_2"), pair["geometry"][4:]):
    image, label = (pair[f + suffix][:, :: -1 if flip else 1] for f in ("image", "label"))
    assert (image[:40, :60] == 9).all() and (label[:40, :60] == 0).all()
    assert (image[40:] == (124, 116, 104)).all() and (image[:, 60:] == (124, 116, 104)).all()
    assert (label[40:] == 255).all() and (label[:, 60:] == 255).all()
    left = 4 if flip else 0
    assert pair["valid" + suffix].tolist() == [0, left, 40, left + 60]


def test_laws_of_the_origins():
  rng, crop, size = np.random.default_rng(0), (64, 64), (100, 151)
  draws = np.array([draw_origins(size, crop, rng) for _ in range(3000)])
  first, second = draws[:, 0], draws[:, 1]
  assert first.min() == 0 and (first.max(0) == [36, 87]).all()
  assert abs(first[:, 0].mean() - 18) < 1 and abs(first[:, 1].mean() - 43.5) < 2
  shift = second - first
  assert (shift % 8 == 0).all() and (second >= 0).all() and (second <= [36, 87]).all()
  overlap = (64 - np.abs(shift)).prod(1)
  assert (overlap / (2 * 64 * 64 - overlap) >= 0.1).all()
  assert (shift < 0).any() and (shift > 0).any()


def test_crops_that_cannot_overlap_enough_coincide():
  class Far:
    def __init__(self):
      self.calls = 0

    def integers(self, low, high, endpoint):
      self.calls += 1
      return low if self.calls <= 2 else high

  far = Far()
  assert draw_origins((1000, 1000), (64, 64), far) == ((0, 0), (0, 0))
  assert far.calls == 2 + 2 * 50


def test_coins_are_two():
  picture = Example("p", np.zeros((64, 64, 3), np.uint8), None)
  rng = np.random.default_rng(1)
  flips = np.array(
    [random_pair(picture, rng, rules=_rules(64, (1, 1), 64))["geometry"][4:] for _ in range(600)]
  )
  assert (np.abs(flips.mean(0) - 0.5) < 0.07).all()
  assert abs(np.corrcoef(flips.T)[0, 1]) < 0.12
