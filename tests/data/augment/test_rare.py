"""Crops around rare classes."""

import dataclasses

import numpy as np
import pytest

from semiseg_jax.data.augment.axes import Axis
from semiseg_jax.data.augment.crops import Rules, random_crop
from semiseg_jax.data.augment.families import FAMILIES, make_augment
from semiseg_jax.data.augment.rare import Rare, around_rare
from semiseg_jax.data.records import Example, Record, encode_record
from semiseg_jax.labels import IGNORE
from tests import small_city

SIZE, CROP = (60, 90), (16, 24)
SCALES = {family: (0.5, 2.0) for family in FAMILIES}


def picture(spots=((2, (57, 85)),), size=SIZE):
  """Of class 0, with ignored pixels, and a spot of 3x3 pixels for each (class, corner)."""
  label = np.zeros(size, np.uint8)
  label[:, :5] = IGNORE
  for c, (y, x) in spots:
    label[y : y + 3, x : x + 3] = c
  image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  return Example("p", image, label)


def rules(family, rare=None, **changes):
  base = Rules(FAMILIES[family], CROP, SCALES[family], 0.5, base_size=80, rare=rare)
  return dataclasses.replace(base, **changes)


def crops(family, rare, count=60, shown=None):
  shown = shown or picture()
  seeds = map(np.random.default_rng, range(count))
  return [random_crop(shown, rng, rules=rules(family, rare)) for rng in seeds]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_crop_holds_the_class_when_it_is_asked_for(family):
  found = crops(family, Rare(1.0, (2,)))
  assert all((crop["label"] == 2).any() for crop in found)
  assert np.mean([(crop["label"] == 2).any() for crop in crops(family, None)]) < 0.5


def test_the_crop_holds_it_with_the_probability():
  share = np.mean([(c["label"] == 2).any() for c in crops("cps", Rare(0.5, (2,)), 400)])
  uniform = np.mean([(c["label"] == 2).any() for c in crops("cps", None, 400)])
  assert abs(share - (0.5 + 0.5 * uniform)) < 0.08


def test_scale_and_mirror_are_those_of_the_crop_without():
  same = Example("p", np.full((*SIZE, 3), 7, np.uint8), picture().label)
  for with_, without in zip(crops("cps", Rare(1.0, (2,)), 20, same), crops("cps", None, 20, same)):
    np.testing.assert_array_equal(with_["valid"], without["valid"])
    np.testing.assert_array_equal(with_["image"], without["image"])


def test_pictures_without_it_and_probability_0_keep_their_crops():
  bare = picture(spots=())
  for rare in (Rare(1.0, (2,)), Rare(0.0)):
    for with_, without in zip(crops("u2pl", rare, 8, bare), crops("u2pl", None, 8, bare)):
      for name in without:
        np.testing.assert_array_equal(with_[name], without[name])


def test_any_class_of_the_picture_is_as_likely_as_the_others():
  """Of four classes the spots have a thousandth of the pixels, and a quarter of the crops."""
  shown = picture(spots=((1, (3, 50)), (2, (57, 85)), (3, (40, 8))))
  axes = [Axis(n, n, 0, 1, 0) for n in SIZE]
  rng, hit = np.random.default_rng(0), []
  for _ in range(400):
    y, x = around_rare(shown.label, axes, rng, Rare(1.0), centers=True, flipped=False)
    hit.append(shown.label[y.start, x.start])
  shares = np.bincount(hit, minlength=256) / 400
  np.testing.assert_allclose(shares[:4], 0.25, atol=0.07)
  assert not shares[IGNORE]


def test_crops_that_hold_a_pixel_are_uniform():
  label = np.zeros((1, 20), np.uint8)
  label[0, 3] = 1
  rng, axes = np.random.default_rng(0), [Axis(1, 1, 0, 1, 0), Axis(20, 20, 9, 8, 0)]
  run = lambda flipped: {
    around_rare(label, axes, rng, Rare(1.0, (1,)), centers=False, flipped=flipped)[1].start
    for _ in range(100)
  }
  assert run(False) == {0, 1, 2, 3}
  assert run(True) == {9, 10, 11, 12}  # it is pixel 16 of the mirrored row


def test_small_pictures_keep_their_padding():
  shown = picture(spots=((2, (5, 5)),), size=(12, 10))
  for with_, without in zip(
    crops("contrastiveseg", Rare(1.0), 6, shown), crops("contrastiveseg", None, 6, shown)
  ):
    assert (with_["label"] == 2).any() or with_["valid"].tolist() == without["valid"].tolist()


def test_a_record_gives_the_crop_of_the_decoded_picture():
  shown = picture()
  record = Record(encode_record("p", shown.image, shown.label))
  for seed in range(4):
    one, two = (
      random_crop(p, np.random.default_rng(seed), rules=rules("cps", Rare(1.0, (2,))))
      for p in (shown, record)
    )
    np.testing.assert_array_equal(one["label"], two["label"])


def test_the_config_asks_for_it(tmp_path):
  config = small_city.config("data")
  assert make_augment(config, "single").keywords["rules"].rare is None
  rare = Rare(0.5, (1,))
  assert make_augment(config, "single", rare).keywords["rules"].rare is rare
