import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.resize import resize_bilinear

SIZES = [
  ((5, 7), (9, 13)),
  ((9, 13), (4, 5)),
  ((6, 6), (6, 11)),
  ((1, 3), (4, 6)),
  ((5, 4), (1, 1)),
  ((3, 5), (3, 5)),
]


def _position(out, source, target, align_corners):
  if align_corners:
    return out * (source - 1) / (target - 1) if target > 1 else 0.0
  return min(max((out + 0.5) * source / target - 0.5, 0.0), source - 1.0)


def _bilinear(x, size, align_corners):
  """Pixel by pixel, the four neighbours written out."""
  y = np.zeros((*size, x.shape[-1]))
  for i, j in np.ndindex(*size):
    v = _position(i, x.shape[0], size[0], align_corners)
    u = _position(j, x.shape[1], size[1], align_corners)
    top, left = math.floor(v), math.floor(u)
    bottom, right = min(top + 1, x.shape[0] - 1), min(left + 1, x.shape[1] - 1)
    v, u = v - top, u - left
    y[i, j] = (
      (1 - v) * (1 - u) * x[top, left]
      + (1 - v) * u * x[top, right]
      + v * (1 - u) * x[bottom, left]
      + v * u * x[bottom, right]
    )
  return y


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("source, target", SIZES)
def test_bilinear(source, target, align_corners):
  x = np.random.default_rng(0).standard_normal((2, 3, *source, 4)).astype(np.float32)
  y = resize_bilinear(jnp.asarray(x), target, align_corners)
  assert y.shape == (2, 3, *target, 4) and y.dtype == jnp.float32
  for a, b in np.ndindex(2, 3):
    np.testing.assert_allclose(y[a, b], _bilinear(x[a, b], target, align_corners), atol=2e-6)


def test_bilinear_without_aligned_corners_equals_jax_image_when_enlarging():
  x = np.random.default_rng(0).standard_normal((1, 5, 7, 2)).astype(np.float32)
  expected = jax.image.resize(x, (1, 10, 21, 2), "bilinear")
  np.testing.assert_allclose(resize_bilinear(jnp.asarray(x), (10, 21), False), expected, atol=2e-6)


def test_bilinear_keeps_bfloat16():
  assert resize_bilinear(jnp.ones((2, 3, 1), jnp.bfloat16), (4, 4), True).dtype == jnp.bfloat16
