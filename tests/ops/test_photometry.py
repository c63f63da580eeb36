"""Color and blur on the device against Pillow, OpenCV and numpy; the laws of every draw."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from configs import augmentations
from semiseg_jax.config import schema
from semiseg_jax.ops import photometry

COUNT = 4000


def _keys(count, seed=0):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(count))


@pytest.fixture(scope="module")
def images():
  """uint8 [5,40,50,3]: noise, a ramp, gray, black with one bright pixel, a scene of patches."""
  rng = np.random.default_rng(0)
  ramp = np.indices((40, 50)).sum(0)[..., None] * 2 + np.array([0, 20, 40])
  gray = np.repeat(rng.integers(0, 256, (40, 50, 1)), 3, -1)
  dark = np.zeros((40, 50, 3))
  dark[7, 9] = (250, 10, 90)
  patches = cv2.resize(rng.integers(0, 256, (5, 6, 3), np.uint8), (50, 40))
  noise = rng.integers(0, 256, (40, 50, 3))
  return np.stack([noise, ramp.clip(0, 255), gray, dark, patches]).astype(np.uint8)


@pytest.fixture(scope="module")
def jitter():
  return jax.jit(photometry.color_jitter)


def _pillow(image, kind, factor):
  """One adjustment as torchvision makes it of a Pillow picture."""
  picture = Image.fromarray(image)
  if kind == photometry.HUE:
    hue, saturation, value = picture.convert("HSV").split()
    shifted = (np.asarray(hue).astype(int) + int(factor)) % 256
    parts = (Image.fromarray(shifted.astype(np.uint8)), saturation, value)
    return np.asarray(Image.merge("HSV", parts).convert("RGB"))
  enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[kind]
  return np.asarray(enhance(picture).enhance(factor))


def _arguments(count, factors, order, on=None):
  return (
    np.tile(np.array(factors, np.float32), (count, 1)),
    np.tile(np.array(order, np.int32), (count, 1)),
    np.tile(np.array([True] * 4 if on is None else on), (count, 1)),
  )


@pytest.mark.parametrize(
  "kind, factors",
  [
    (photometry.BRIGHTNESS, (0.5, 0.77, 1.0, 1.23, 1.5)),
    (photometry.CONTRAST, (0.5, 0.77, 1.0, 1.23, 1.5)),
    (photometry.SATURATION, (0.0, 0.5, 1.0, 1.23, 1.5)),
    (photometry.HUE, (-64, -3, 0, 1, 37, 63)),
  ],
)
def test_each_adjustment_is_pillows(images, jitter, kind, factors):
  for factor in factors:
    all_factors, on = [1.0, 1.0, 1.0, 0.0], [k == kind for k in range(4)]
    all_factors[kind] = factor
    found = np.asarray(jitter(images, *_arguments(len(images), all_factors, range(4), on)))
    assert found.dtype == np.uint8
    expected = np.stack([_pillow(image, kind, factor) for image in images])
    difference = np.abs(found.astype(int) - expected)
    # A value next to a whole number may fall on its other side; of a hue that is 5 levels.
    assert difference.max() <= (6 if kind == photometry.HUE else 1)
    assert (difference > 0).mean() < 0.005


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_adjustments_are_made_in_order_with_8_bits_between(images, jitter, order):
  factors = [1.4, 0.6, 1.3, -20]
  found = np.asarray(jitter(images, *_arguments(len(images), factors, order)))
  expected = images
  for kind in order:
    expected = np.stack([_pillow(image, kind, factors[kind]) for image in expected])
  difference = np.abs(found.astype(int) - expected)
  # One level before a hue of 8 bits may be several after it.
  assert np.quantile(difference, 0.95) == 0 and difference.mean() < 0.1
  other = np.asarray(jitter(images, *_arguments(len(images), factors, order[::-1])))
  assert (found != other).mean() > 0.1


def test_examples_have_their_own_factors_order_and_gates(images, jitter):
  factors, order, on = photometry.draw_distortion(_keys(5))
  found = np.asarray(jitter(images, factors, order, on))
  for i in range(5):
    alone = jitter(images[i : i + 1], factors[i : i + 1], order[i : i + 1], on[i : i + 1])
    np.testing.assert_array_equal(found[i], alone[0])


def test_grayscale_is_pillows(images):
  found = np.asarray(photometry.grayscale(jnp.asarray(images)))
  expected = np.stack([np.asarray(Image.fromarray(i).convert("L").convert("RGB")) for i in images])
  np.testing.assert_array_equal(found, expected)


def _gauss(image, sigma, radius, mode):
  """A loop over taps in float64."""
  taps = np.arange(-radius, radius + 1)
  weights = np.exp(-(taps**2) / (2 * sigma**2))
  weights /= weights.sum()
  x = image.astype(float)
  for axis in (0, 1):
    sides = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(x, sides, mode=mode)
    x = sum(
      w * np.take(padded, np.arange(x.shape[axis]) + t, axis=axis) for t, w in enumerate(weights)
    )
  return x


@pytest.mark.parametrize("border", ["edge", "reflect"])
def test_blur_of_each_example_by_its_own_sigma(images, border):
  sigma = np.array([0.1, 0.4, 1.1, 1.7, 2.0], np.float32)
  weights = photometry.gaussian_weights(jnp.asarray(sigma), 6)
  blur = jax.jit(photometry.blur, static_argnames="border")
  found = np.asarray(blur(images, weights, border=border))
  for image, s, result in zip(images, sigma, found):
    assert np.abs(result - _gauss(image, float(s), 6, border)).max() < 0.502
  np.testing.assert_array_equal(found[0], images[0])  # 0.1 pixels is no blur


def test_a_gaussian_is_near_pillows_blur(images):
  scene = cv2.resize(images[4], (100, 80))
  sigma = jnp.asarray([0.5, 1.0, 2.0])
  found = photometry.blur(
    jnp.asarray([scene] * 3), photometry.gaussian_weights(sigma, 6), border="edge"
  )
  for s, result in zip(sigma, np.asarray(found).astype(int)):
    expected = np.asarray(Image.fromarray(scene).filter(ImageFilter.GaussianBlur(float(s))))
    difference = np.abs(result - expected)  # Pillow's is three box blurs
    assert difference.mean() < 0.6 and difference.max() <= 6


@pytest.mark.parametrize("taps", [3, 5])
def test_opencvs_blur(images, taps):
  weights = jnp.tile(photometry.binomial_weights(taps), (5, 1))
  found = np.asarray(photometry.blur(jnp.asarray(images), weights, border="reflect"))
  expected = np.stack([cv2.GaussianBlur(image, (taps, taps), 0) for image in images])
  assert np.abs(found.astype(int) - expected).max() <= 1


def _uniform(values, low, high):
  values = np.asarray(values, float)
  assert low <= values.min() and values.max() <= high
  assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / len(values) ** 0.5
  quarters = np.histogram(values, bins=4, range=(low, high))[0] / len(values)
  np.testing.assert_allclose(quarters, 0.25, atol=0.035)


@pytest.mark.parametrize("strength", [(0.5, 0.5, 0.5, 0.25), (0.4, 0.4, 0.4, 0.1)])
def test_laws_of_the_jitter(strength):
  factors, order, on = map(np.asarray, photometry.draw_jitter(_keys(COUNT), strength))
  for kind in range(3):
    _uniform(factors[:, kind], 1 - strength[kind], 1 + strength[kind])
  hue = factors[:, 3]
  assert (hue == np.trunc(hue)).all() and np.abs(hue).max() == int(255 * strength[3])
  assert abs(hue.mean()) < 4 * 255 * strength[3] / 3**0.5 / COUNT**0.5
  assert on.all() and (np.sort(order, 1) == np.arange(4)).all()
  orders = np.unique(order, axis=0, return_counts=True)[1]
  assert len(orders) == 24 and np.abs(orders - COUNT / 24).max() < 5 * (COUNT / 24) ** 0.5
  correlated = np.corrcoef(factors.T) - np.eye(4)
  assert np.abs(correlated).max() < 0.06


def test_factors_stay_above_zero():
  factors = np.asarray(photometry.draw_jitter(_keys(500), (1.5, 2.0, 1.0, 0.0))[0])
  assert factors.min() >= 0 and factors[:, 1].max() > 2.8 and (factors[:, 3] == 0).all()


def test_laws_of_the_distortion():
  factors, order, on = map(np.asarray, photometry.draw_distortion(_keys(COUNT)))
  for kind in range(3):
    _uniform(factors[:, kind], 0.6, 1.4)
  assert factors[:, 3].min() == -18 and factors[:, 3].max() == 17
  np.testing.assert_allclose(on.mean(0), 0.5, atol=0.035)
  assert np.abs(np.corrcoef(on.T) - np.eye(4)).max() < 0.06
  assert len(np.unique(order, axis=0)) == 24


def test_law_of_sigma():
  _uniform(photometry.draw_sigma(_keys(COUNT), (0.1, 2.0)), 0.1, 2.0)


def _config(**strong):
  config = schema.default()
  config.data.strong.update(strong)
  return config


@pytest.mark.parametrize("name, p", [("jitter", 0.8), ("gray", 0.2), ("blur", 0.5)])
def test_each_change_has_its_chance_and_only_it(name, p):
  rng = np.random.default_rng(1)
  tiny = np.tile(rng.integers(60, 200, (1, 8, 8, 3), np.uint8), (800, 1, 1, 1))
  others = {f"{n}_p": 0.0 for n in ("jitter", "gray", "blur")}
  config = _config(order=(name,), blur_sigma=(1.0, 1.5), **(others | {f"{name}_p": p}))
  changed = np.asarray(photometry.strong_view(tiny, _keys(800), config)) != tiny
  assert abs(changed.any((1, 2, 3)).mean() - p) < 0.06
  assert schema.default().data.strong[f"{name}_p"] == p  # UniMatch's and CAC's


def test_the_order_is_that_of_the_config(images):
  changes = {"jitter_p": 1.0, "gray_p": 1.0, "blur_p": 0.0, "jitter": (0.0, 0.0, 0.0, 0.25)}
  last = photometry.strong_view(images, _keys(5), _config(order=("jitter", "gray"), **changes))
  assert (np.ptp(np.asarray(last), axis=-1) == 0).all()
  first = photometry.strong_view(images, _keys(5), _config(order=("gray", "blur"), **changes))
  np.testing.assert_array_equal(first, photometry.grayscale(jnp.asarray(images)))


def test_strong_views_are_functions_of_the_key_and_differ(images):
  config = _config()
  view = jax.jit(lambda x, k: photometry.strong_view(x, k, config))
  same = np.repeat(images[4:], 5, 0)
  first, other = np.asarray(view(same, _keys(5))), np.asarray(view(same, _keys(5, seed=1)))
  np.testing.assert_array_equal(first, view(same, _keys(5)))
  assert first.dtype == np.uint8 and (first != other).any()
  assert len({image.tobytes() for image in first}) == 5
  shifted = np.asarray(view(same, _keys(6)[1:]))
  np.testing.assert_array_equal(shifted[:4], first[1:])


def test_cac_blurs_first_with_five_taps(images):
  config = schema.default()
  augmentations.strong_cac(config)
  strong = config.data.strong
  assert tuple(strong.order) == ("blur", "jitter", "gray")
  assert tuple(strong.jitter) == (0.4, 0.4, 0.4, 0.1)
  strong.jitter_p, strong.gray_p, strong.blur_p = 0.0, 0.0, 1.0
  found = np.asarray(photometry.strong_view(jnp.asarray(images), _keys(5), config))
  expected = np.stack([cv2.GaussianBlur(image, (5, 5), 0) for image in images])
  assert np.abs(found.astype(int) - expected).max() <= 1


def test_brightness_adds_one_of_21_numbers_to_all_channels():
  flat = np.full((COUNT, 2, 2, 3), 100, np.uint8)
  found = np.asarray(photometry.every_view(flat, _keys(COUNT), "brightness", _config()))
  found = found.astype(int) - 100
  assert (found == found[:, :1, :1, :1]).all()
  values, counts = np.unique(found[:, 0, 0, 0], return_counts=True)
  assert values.tolist() == list(range(-10, 11))
  assert np.abs(counts - COUNT / 21).max() < 5 * (COUNT / 21) ** 0.5
  ends = np.tile(np.array([0, 255], np.uint8)[None, :, None, None], (50, 1, 1, 3))
  found = np.asarray(photometry.every_view(ends, _keys(50), "brightness", _config()))
  assert found[:, 0].max() <= 10 and found[:, 1].min() >= 245


def test_every_view_by_name(images):
  config = _config(jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.0)
  same = photometry.every_view(images, _keys(5), "none", config)
  assert same is images
  for kind in ("jitter", "distortion"):
    found = np.asarray(photometry.every_view(jnp.asarray(images), _keys(5), kind, config))
    assert found.shape == images.shape and (found != images).any((1, 2, 3)).sum() >= 3
  with pytest.raises(ValueError, match="'sharpness'.*none, jitter, brightness, distortion"):
    photometry.every_view(images, _keys(5), "sharpness", config)
