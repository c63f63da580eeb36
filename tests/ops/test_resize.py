import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.resize import cubic_matrix, pool_average, resize_bilinear, resize_nearest

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
  """Pixel by pixel, the four neighbors written out."""
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


def test_cubic_matrix_by_hand():
  """Weights of a = -0.75 at a quarter of the way, from Keys' polynomials by hand."""
  far, near, other, last = -0.10546875, 0.87890625, 0.26171875, -0.03515625
  matrix = cubic_matrix(4, 8, 2)
  np.testing.assert_allclose(matrix[3], (far, near, other, last), atol=1e-15)
  # At -1/4 the first sample stands for those before it.
  np.testing.assert_allclose(matrix[0], (last + other + near, far, 0, 0), atol=1e-15)
  np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-15)
  np.testing.assert_array_equal(cubic_matrix(5, 5, 1), np.eye(5))


def test_cubic_matrix_follows_the_scale_it_is_given():
  # The scale and not the sizes: with 5.1 / 37 output 0 reads around 0.5 * 37 / 5.1 - 0.5 = 3.127.
  row = cubic_matrix(37, 5, 5.1 / 37)[0]
  assert np.flatnonzero(row).tolist() == [2, 3, 4, 5]
  np.testing.assert_allclose(row @ np.arange(37), 0.5 * 37 / 5.1 - 0.5, atol=0.1)
  assert np.argmax(row) == 3
  np.testing.assert_allclose(row.sum(), 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (5, 7), (8, 9)])
def test_average_pooling_cell_by_cell(size):
  """PyTorch's adaptive cells: they overlap where the sides do not divide, or are fewer."""
  x = np.random.default_rng(0).standard_normal((2, 5, 7, 3)).astype(np.float32)
  y = pool_average(jnp.asarray(x, jnp.bfloat16 if size == (1, 1) else jnp.float32), size)
  assert y.shape == (2, *size, 3) and y.dtype == jnp.float32
  for i, j in np.ndindex(*size):
    top, left = math.floor(i * 5 / size[0]), math.floor(j * 7 / size[1])
    bottom, right = math.ceil((i + 1) * 5 / size[0]), math.ceil((j + 1) * 7 / size[1])
    cell = x[:, top:bottom, left:right].mean((1, 2))
    np.testing.assert_allclose(y[:, i, j], cell, atol=2e-3 if size == (1, 1) else 1e-6)


def test_the_nearest_pixel_is_rounded_down():
  M = jnp.arange(5)[None, :, None] * 10 + jnp.arange(7)[None, None]
  np.testing.assert_array_equal(resize_nearest(M, (2, 3))[0], [[0, 2, 4], [20, 22, 24]])
