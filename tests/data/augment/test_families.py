"""Each family against a plain transcription of its order of operations, and config to family."""

import functools

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import augmentations
from semiseg_jax.config import schema
from semiseg_jax.data.augment.crops import Rules, filled_crop, random_crop
from semiseg_jax.data.augment.families import FAMILIES, make_augment
from semiseg_jax.data.augment.pairs import random_pair
from semiseg_jax.data.records import Example
from semiseg_jax.errors import ConfigError

CROP = (96, 120)
SCALES = {
  "cps": (0.5, 1.5, 2.0),
  "unimatch": (0.5, 2.0),
  "cac": (0.5, 2.0),
  "advsemiseg": (0.5, 0.9, 1.6),
  "contrastiveseg": (0.5, 2.0),
  "paddleseg": (0.5, 1.25, 2.0),
  "pseudoseg": (0.5, 1.25, 2.0),
  "u2pl": (0.5, 2.0),
}


class Log:
  """A generator that keeps what it gave, for a transcription to draw the same."""

  def __init__(self, seed):
    self.rng, self.given = np.random.default_rng(seed), []

  def _keep(self, value):
    self.given.append(value)
    return value

  def random(self):
    return self._keep(self.rng.random())

  def uniform(self, *limits):
    return self._keep(self.rng.uniform(*limits))

  def integers(self, *args, **kwargs):
    return self._keep(self.rng.integers(*args, **kwargs))


def _picture(height, width):
  rng = np.random.default_rng(height)
  coarse = rng.integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
  image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
  return Example("p", image, rng.integers(0, 19, (height, width), dtype=np.uint8))


def _resized(family, picture, size):
  """The whole picture and label at `size`, by the library that the published code calls."""
  width_height = size[::-1]
  if family in ("unimatch", "cac", "pseudoseg"):
    kind = Image.Resampling.BICUBIC if family == "cac" else Image.Resampling.BILINEAR
    image = np.asarray(Image.fromarray(picture.image).resize(width_height, kind))
  else:
    kind = cv2.INTER_CUBIC if family == "contrastiveseg" else cv2.INTER_LINEAR
    image = cv2.resize(picture.image, width_height, interpolation=kind)
  if family in ("unimatch", "pseudoseg"):
    label = Image.fromarray(picture.label).resize(width_height, Image.Resampling.NEAREST)
  else:
    label = cv2.resize(picture.label, width_height, interpolation=cv2.INTER_NEAREST)
  return image, np.asarray(label)


def _transcribed(family, picture, given, fill):
  """The published order on whole pictures, from the draws `given` (consumed in our order)."""
  given, (height, width) = list(given), picture.size
  if family in ("cps", "u2pl") and given.pop(0) < 0.5:
    picture = Example("p", picture.image[:, ::-1].copy(), picture.label[:, ::-1].copy())
  if family in ("unimatch", "cac"):
    new = given.pop(0)
    short = int(min(height, width) * new / max(height, width) + 0.5)
    size = (new, short) if height > width else (short, new)
  elif family == "contrastiveseg":
    s, a = given.pop(0), given.pop(0)
    size = _on_grid(picture.size, (s / a**0.5, s * a**0.5))
  elif family == "u2pl":
    coin, s = given.pop(0), given.pop(0)
    assert (s < 1) == (coin < 0.5)
    size = _on_grid(picture.size, (s, s))
  else:
    scale, rule = SCALES[family][given.pop(0)], int if family in ("cps", "pseudoseg") else round
    size = rule(height * scale), rule(width * scale)
  image, label = _resized(family, picture, size)
  rows, columns = (_place(family, n, c, given) for n, c in zip(size, CROP))
  out = np.full((*CROP, 3), fill, np.uint8)
  out_label = np.full(CROP, 255, np.uint8)
  out[rows[1], columns[1]] = image[rows[0], columns[0]]
  out_label[rows[1], columns[1]] = label[rows[0], columns[0]]
  if family not in ("cps", "u2pl") and given.pop(0) < 0.5:
    out, out_label = out[:, ::-1], out_label[:, ::-1]
  assert not given
  return out, out_label


def _on_grid(size, factors):
  return tuple(
    round(f * 64) * n // 64 if n % 64 == 0 else int(n * f) for n, f in zip(size, factors)
  )


def _place(family, size, crop, given):
  if size > crop:
    start = given.pop(0)
    return np.s_[start : start + crop], np.s_[:crop]
  pad = 0
  if family in ("cps", "u2pl"):
    pad = (crop - size) // 2
  elif family == "contrastiveseg" and size < crop:
    pad = given.pop(0)
  return np.s_[:size], np.s_[pad : pad + size]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(128, 192), (75, 101), (140, 90)])
def test_a_crop_is_that_of_the_published_order(family, size):
  picture, fill = _picture(*size), (124, 116, 104)
  rules = Rules(FAMILIES[family], CROP, SCALES[family], 0.5, fill=fill)
  padded = 0
  for seed in range(24):
    log = Log(seed)
    found = random_crop(picture, log, rules=rules)
    image, label = _transcribed(family, picture, log.given, fill)
    np.testing.assert_array_equal(found["label"], label)
    difference = np.abs(found["image"].astype(int) - image)
    assert difference.max() <= (1 if "opencv_linear" in FAMILIES[family].kernel else 2)
    assert (difference > 0).mean() < 0.2  # ties, see test_reading
    y0, x0, y1, x1 = found["valid"]
    inside = np.zeros(CROP, bool)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(inside, label != 255)
    padded += not inside.all()
  assert padded


@pytest.mark.parametrize("family", FAMILIES)
def test_flip_rate(family):
  ramp = np.tile(np.arange(120, dtype=np.uint8), (96, 1))[..., None]
  rules = Rules(FAMILIES[family], CROP, (1.0, 1.0), 0.25)
  rng, flips = np.random.default_rng(0), 0
  for _ in range(1500):
    image = random_crop(Example("p", ramp, None), rng, rules=rules)["image"][36, :, 0]
    flips += int(image[20]) > int(image[70])
  assert abs(flips / 1500 - 0.25) < 0.045


def _filled(seed, size, scales, crop=CROP):
  log = Log(seed)
  picture = _picture(*size)
  out = filled_crop(picture, log, rules=Rules(FAMILIES["advsemiseg"], crop, scales, 0.5))
  assert out["valid"].tolist() == [0, 0, *crop] and (out["label"] != 255).all()
  return out, log.given


def test_filled_crops_have_no_padding_and_take_factors_on_top_of_each_other():
  scales = tuple(k / 10 for k in range(5, 17))
  for seed in range(30):
    _, given = _filled(seed, (60, 80), scales)
    size, factors = (60, 80), []
    while min(n / c for n, c in zip(size, CROP)) < 1 and len(factors) < 10 or not factors:
      factors.append(scales[given[len(factors)]])
      size = tuple(round(n * factors[-1]) for n in size)
    if all(n >= c for n, c in zip(size, CROP)):
      offsets = sum(n > c for n, c in zip(size, CROP))
      assert len(given) == len(factors) + offsets + 1  # the coin


def test_a_filled_crop_of_a_hopeless_picture_is_stretched():
  out, given = _filled(0, (30, 200), (1.0,))
  assert len(given) == 11
  label = cv2.resize(_picture(30, 200).label, CROP[::-1], interpolation=cv2.INTER_NEAREST)
  np.testing.assert_array_equal(out["label"][:, :: -1 if given[-1] < 0.5 else 1], label)


PRESETS = {
  "unimatch": augmentations.unimatch,
  "cac": functools.partial(augmentations.cac, base_size=400),
  "advsemiseg": functools.partial(augmentations.advsemiseg, published=False),
  "contrastiveseg": augmentations.contrastiveseg,
  "paddleseg": augmentations.paddleseg,
  "pseudoseg": augmentations.pseudoseg,
  "u2pl": augmentations.u2pl,
}


def _config(family):
  c = schema.default()
  PRESETS.get(family, lambda c: None)(c)
  return c


def test_published_numbers_of_the_presets():
  scales = {family: tuple(_config(family).data.scales) for family in FAMILIES}
  assert scales == {
    "cps": (0.5, 0.75, 1.0, 1.5, 1.75, 2.0),
    "unimatch": (0.5, 2.0),
    "cac": (0.5, 2.0),
    "advsemiseg": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6),
    "contrastiveseg": (0.5, 2.0),
    "paddleseg": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
    "pseudoseg": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
    "u2pl": (0.5, 2.0),
  }
  assert {f: _config(f).data.padding for f in FAMILIES} == {
    "cps": "mean",
    "unimatch": "black",
    "cac": "mean_pixel",
    "advsemiseg": "mean",
    "contrastiveseg": "mean",
    "paddleseg": "mean",
    "pseudoseg": "mean_pixel",
    "u2pl": "mean",
  }
  adv = _config("advsemiseg").data
  np.testing.assert_allclose(np.array(adv.mean) * 255, (122.67891434, 116.66876762, 104.00698793))
  np.testing.assert_allclose(np.array(adv.std) * 255, 1)
  assert tuple(_config("cac").data.pair_scales) == (0.8, 2.0)
  c = schema.default()
  augmentations.advsemiseg(c, published=True)
  assert (tuple(c.data.scales), c.data.flip) == ((1.0,), 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_config_chooses_the_family_and_its_numbers(family):
  config = _config(family)
  config.data.crop = CROP
  rules = make_augment(config, "single").keywords["rules"]
  assert rules.family is FAMILIES[family] and rules.crop == CROP
  assert rules.scales == tuple(config.data.scales) and rules.beyond == 0
  assert rules.fill == ((124, 116, 104) if family in ("cac", "pseudoseg") else ())
  picture = _picture(100, 130)
  found = make_augment(config, "single")(picture, np.random.default_rng(0))
  expected = random_crop(picture, np.random.default_rng(0), rules=rules)
  np.testing.assert_array_equal(found["image"], expected["image"])


def test_views():
  config = _config("cac")
  pair, filled = make_augment(config, "pair"), make_augment(config, "filled")
  assert pair.func is random_pair and pair.keywords["rules"].scales == (0.8, 2.0)
  assert filled.func is filled_crop and filled.keywords["rules"].scales == (0.5, 2.0)
  unscaled = make_augment(config, "unscaled")
  assert unscaled.func is random_crop and unscaled.keywords["rules"].scales == (1.0, 1.0)
  with pytest.raises(ValueError, match="'pairs'.*single, pair, filled, unscaled"):
    make_augment(config, "pairs")
  with pytest.raises(ConfigError, match="data.augment='cps' knows no pairs.*'cac'"):
    make_augment(schema.default(), "pair")
  config.data.crop = (60, 64)
  with pytest.raises(ConfigError, match=r"data.crop=\(60, 64\).*multiples of 8"):
    make_augment(config, "pair")


def test_the_published_overshoot():
  config = ConfigDict(schema.default().to_dict())
  config.data.compat = ("crop_offset",)
  assert make_augment(config, "single").keywords["rules"].beyond == 1
