"""TensorFlow's color jitter against Python's colorsys and loops; the law of its draws."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np

from configs import augmentations
from semiseg_jax.config import schema
from semiseg_jax.ops import photometry
from semiseg_jax.ops.float_jitter import float_jitter

ORDERS = [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)]
FACTORS = [(0.3, 0.6, 1.4, 0.2), (-0.4, 1.5, 0.5, -0.25), (0.0, 1.0, 1.0, 0.1), (0.5, 0.5, 1.5, 0)]


def _images():
  """Noise, gray, black with one bright pixel, saturated colors."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (4, 6, 5, 3))
  images[1] = images[1, ..., :1]
  images[2] = 0
  images[2, 3, 3] = (250, 10, 90)
  images[3] = np.where(images[3] > 120, 255, 0)
  return images.astype(np.uint8)


def _by_pixel(image, factors, order):
  """Real numbers 0 to 1."""
  x = image / 255
  for kind in order:
    mean, out = x.mean((0, 1)), np.empty_like(x)
    for at in np.ndindex(x.shape[:2]):
      pixel = x[at]
      h, s, v = colorsys.rgb_to_hsv(*pixel)
      out[at] = (
        pixel + factors[0],
        mean + factors[1] * (pixel - mean),
        colorsys.hsv_to_rgb(h, min(s * factors[2], 1), v),
        colorsys.hsv_to_rgb((h + factors[3]) % 1, s, v),
      )[kind]
    x = np.clip(out, 0, 1)
  return x


def test_four_adjustments_in_order():
  images, factors = _images(), np.array(FACTORS, np.float32)
  run = jax.jit(float_jitter)
  for shift in range(4):
    order = np.array(ORDERS[shift:] + ORDERS[:shift])
    found = np.asarray(run(images, factors, order))
    assert found.dtype == np.uint8
    expected = [255 * _by_pixel(*each) for each in zip(images, factors, order)]
    assert np.abs(found - np.stack(expected)).max() < 0.51


def test_the_law_of_the_draws():
  keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(2000))
  factors, order = map(np.asarray, photometry.draw_float_jitter(keys, (0.5, 0.4, 0.3, 0.25)))
  for values, low, high in zip(factors.T, (-0.5, 0.6, 0.7, -0.25), (0.5, 1.4, 1.3, 0.25)):
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)
  assert len(np.unique(order, axis=0)) == 24 and (np.sort(order, 1) == np.arange(4)).all()


def test_the_strong_view_of_pseudoseg():
  config, images = schema.default(), _images()
  augmentations.strong_pseudoseg(config)
  keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(jnp.arange(4))
  found = np.asarray(jax.jit(lambda x, k: photometry.strong_view(x, k, config))(images, keys))
  assert (found != images).any((1, 2, 3)).all()  # always, and without blur or gray
  config.data.strong.jitter = (0.0, 0.0, 0.0, 0.0)
  np.testing.assert_array_equal(photometry.strong_view(images, keys, config), images)
