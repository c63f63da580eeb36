"""CutOut: the law of its boxes, and noise that does not depend on other rows."""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.cutmix import single_boxes
from semiseg_jax.ops.cutout import AREA, RATIO, draw_cutout


def test_every_try_has_an_area_of_its_own():
  """Against a loop over tries."""
  rng = np.random.default_rng(0)
  u = rng.random((40, 8, 4))
  with jax.enable_x64(True):
    found = single_boxes(
      u[..., 0],
      u[..., 1],
      u[..., 2:],
      height=30,
      width=50,
      area_range=AREA,
      ratio_range=RATIO,
    )
  for box, tries in zip(np.asarray(found).tolist(), u):
    for area, ratio, y, x in tries:
      pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * 30 * 50
      ratio = RATIO[0] + (RATIO[1] - RATIO[0]) * ratio
      height, width = int(np.sqrt(pixels * ratio)), int(np.sqrt(pixels / ratio))
      y, x = int(y * 30), int(x * 50)
      if y + height <= 30 and x + width <= 50:
        assert box == [y, x, y + height, x + width]
        break
    else:
      assert box == [0, 0, 0, 0]


def test_drawn_boxes_and_noise():
  keys = jax.vmap(jax.random.key)(jnp.arange(600))
  draw = jax.jit(lambda k: draw_cutout(k, size=(24, 32), channels=2, probability=0.5))
  M, noise = jax.device_get(draw(keys))
  assert (M.shape, noise.shape) == ((600, 24, 32), (600, 24, 32, 2))
  share = M.mean((1, 2))
  assert abs((share > 0).mean() - 0.5) < 0.06
  np.testing.assert_allclose(share * 24 * 32, M.any(2).sum(1) * M.any(1).sum(1))  # rectangles
  found = share[share > 0]
  # Areas are drawn again where a box does not fit: large ones are rarer than in CutMix.
  assert 0.01 < found.min() < 0.03 and 0.25 < found.max() <= 0.4 and found.mean() < 0.19
  assert abs(noise.mean() - 0.5) < 0.01 and abs(noise.std() - 12**-0.5) < 0.01
  assert noise.min() >= 0 and noise.max() < 1


def test_a_row_depends_on_its_key_alone():
  keys = jax.vmap(jax.random.key)(jnp.arange(5))
  draw = jax.jit(lambda k: draw_cutout(k, size=(24, 32), channels=3, probability=1.0))
  every, one = (jax.device_get(draw(k)) for k in (keys, keys[2:3]))
  for a, b in zip(every, one):
    np.testing.assert_array_equal(a[2], b[0])
  assert every[0].any((1, 2)).all()
