"""Pictures scaled on the device against Pillow, which scales whole pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semiseg_jax.ops.rescale import axis, image_at, map_at

SIDE = 24


@jax.jit
def _run(image, label, scale, u):
  y, x = axis(scale, u[:, 0], SIDE), axis(scale, u[:, 1], SIDE)
  return image_at(image, y, x), map_at(label[None], y, x, 255)[0], map_at(label[None], y, x)[0]


def _expected(image, label, scale, u):
  n = int(np.float32(scale) * SIDE)
  image = np.asarray(Image.fromarray(image).resize((n, n), Image.Resampling.BILINEAR))
  at = [
    (2 * i + 1) * SIDE // (2 * n) for i in range(n)
  ]  # Pillow adds up steps, and their roundings
  label = label[at][:, at]
  more = max(SIDE - n, 0)
  image = np.pad(image, ((0, more), (0, more), (0, 0)), "reflect")
  inside = np.pad(label, ((0, more), (0, more)), constant_values=255)
  y, x = (int(np.float32(v) * np.float32(max(n - SIDE, 0) + 1)) for v in u)
  cut = np.s_[y : y + SIDE, x : x + SIDE]
  return image[cut], inside[cut]


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.75, 1.0, 1.3, 1.5])
def test_a_view_is_that_of_pillow(scale):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
  label = rng.integers(0, 9, (2, SIDE, SIDE), dtype=np.uint8)
  u = rng.random((2, 2)).astype(np.float32)
  found, inside, folded = _run(image, label, jnp.full(2, scale, jnp.float32), u)
  for k in range(2):
    picture, labels = _expected(image[k], label[k], scale, u[k])
    assert np.abs(np.asarray(found[k], int) - picture).max() <= 1
    np.testing.assert_array_equal(inside[k], labels)
  assert (np.asarray(inside) == 255).any() == (scale < 1)
  assert (np.asarray(folded) != 255).all()
