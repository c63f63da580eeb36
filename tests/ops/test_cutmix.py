"""CutMix masks against the reference generator and their published statistics."""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.cutmix import box_masks, draw_box_masks
from tests.golden_files import golden


def test_golden_masks():
  g = golden("cps_cutmix_masks")
  height, width = g["masks"].shape[-2:]
  uniforms = [g[key] for key in ("u_area", "u_aspect", "u_pos")]
  area_range = tuple(float(x) for x in g["prop_range"])
  with jax.enable_x64(True):
    exact = box_masks(
      *(jnp.asarray(u) for u in uniforms), height=height, width=width, area_range=area_range
    )
  np.testing.assert_array_equal(exact, g["masks"][:, 0])
  single = box_masks(
    *(jnp.asarray(u, jnp.float32) for u in uniforms),
    height=height,
    width=width,
    area_range=area_range,
  )
  assert (np.asarray(single) != g["masks"][:, 0]).mean() < 1e-3
  np.testing.assert_allclose(np.asarray(exact).mean((1, 2)), g["area"], atol=1e-12)


def test_drawn_masks_have_the_measured_area():
  keys = jax.vmap(jax.random.key)(jnp.arange(2000))
  area = np.asarray(draw_box_masks(keys, height=64, width=64)).mean((1, 2))
  assert abs(area.mean() - 0.251) < 0.006
  low, high = np.quantile(area, [0.05, 0.95])
  assert abs(low - 0.145) < 0.015 and abs(high - 0.372) < 0.015


def test_mask_of_a_row_depends_on_its_key_only():
  keys = jax.vmap(jax.random.key)(jnp.arange(4))
  masks = draw_box_masks(keys, height=20, width=30)
  np.testing.assert_array_equal(draw_box_masks(keys[2:3], height=20, width=30)[0], masks[2])
