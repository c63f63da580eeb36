"""Normalisation and valid rectangles against loops."""

import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.preprocess import normalize

RECTANGLES = np.array([[0, 0, 4, 5], [1, 2, 3, 4], [2, 0, 2, 5], [3, 0, 4, 1]], np.int32)


def test_normalize_and_zero_outside():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (4, 4, 5, 2), dtype=np.uint8)
  mean, std = (0.3, 0.6), (0.2, 0.5)
  found = np.asarray(normalize(jnp.asarray(images), jnp.asarray(RECTANGLES), mean, std))
  assert found.dtype == np.float32
  for b, y, x, c in np.ndindex(images.shape):
    y0, x0, y1, x1 = RECTANGLES[b]
    inside = y0 <= y < y1 and x0 <= x < x1
    expected = (images[b, y, x, c] / 255 - mean[c]) / std[c] if inside else 0
    np.testing.assert_allclose(found[b, y, x, c], expected, rtol=1e-6, atol=2e-7)


def test_the_dtype_asked_for():
  image, whole = jnp.full((1, 2, 2, 1), 200, jnp.uint8), jnp.asarray([[0, 0, 2, 2]])
  found = normalize(image, whole, (0.5,), (0.25,), jnp.bfloat16)
  assert found.dtype == jnp.bfloat16 and abs(float(found[0, 0, 0, 0]) - 1.137) < 0.02
