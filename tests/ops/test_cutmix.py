"""CutMix masks against the reference generator and their published statistics."""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.boxes import single_boxes
from semiseg_jax.ops.cutmix import box_masks, draw_box_masks, draw_single_box_masks
from tests.golden_files import golden

PUBLISHED = {"boxes": 3, "area_range": (0.25, 0.5)}


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
  area = np.asarray(draw_box_masks(keys, height=64, width=64, **PUBLISHED)).mean((1, 2))
  assert abs(area.mean() - 0.251) < 0.006
  low, high = np.quantile(area, [0.05, 0.95])
  assert abs(low - 0.145) < 0.015 and abs(high - 0.372) < 0.015


def test_mask_of_a_row_depends_on_its_key_only():
  keys = jax.vmap(jax.random.key)(jnp.arange(4))
  masks = draw_box_masks(keys, height=20, width=30, **PUBLISHED)
  np.testing.assert_array_equal(
    draw_box_masks(keys[2:3], height=20, width=30, **PUBLISHED)[0], masks[2]
  )


SINGLE = {"area_range": (0.02, 0.4), "ratio_range": (0.3, 1 / 0.3)}


def _first_that_fits(u_area, tries, height, width):
  """A loop over tries, in plain Python."""
  low, high = SINGLE["area_range"]
  flat, tall = SINGLE["ratio_range"]
  area = (low + (high - low) * u_area) * height * width
  for u_ratio, u_y, u_x in tries:
    ratio = flat + (tall - flat) * u_ratio
    box_width, box_height = int(np.sqrt(area / ratio)), int(np.sqrt(area * ratio))
    x, y = int(u_x * width), int(u_y * height)
    if x + box_width <= width and y + box_height <= height:
      return [y, x, y + box_height, x + box_width]
  return [0, 0, 0, 0]


def test_single_boxes_are_the_first_tries_that_fit():
  rng = np.random.default_rng(0)
  for height, width, tries in ((40, 40, 64), (30, 70, 64), (33, 33, 2)):
    u_area, u = rng.random(50), rng.random((50, tries, 3))
    with jax.enable_x64(True):
      found = single_boxes(u_area, u[..., 0], u[..., 1:], height=height, width=width, **SINGLE)
    expected = [_first_that_fits(a, t, height, width) for a, t in zip(u_area, u)]
    np.testing.assert_array_equal(found, expected)
    assert tries > 2 or not all(map(any, expected))


def test_drawn_single_boxes_have_the_published_law():
  side, count = 80, 4000
  keys = jax.vmap(jax.random.key)(jnp.arange(count))
  draw = lambda k: draw_single_box_masks(k, height=side, width=side, probability=0.5)
  masks = np.asarray(jax.jit(draw)(keys))
  area, rows, columns = masks.mean((1, 2)), masks.any(2).sum(1), masks.any(1).sum(1)
  assert abs((area > 0).mean() - 0.5) < 0.03
  np.testing.assert_allclose(area * side**2, rows * columns)  # one rectangle each
  found = area[area > 0]
  # Truncation takes up to a pixel off each side.
  assert 0.02 - 0.006 < found.min() < 0.025 and 0.39 < found.max() <= 0.4
  assert abs(found.mean() - 0.204) < 0.008 and abs(found.std() - 0.38 / 12**0.5) < 0.005
  ratio = rows[area > 0] / columns[area > 0]
  assert 0.26 < ratio.min() < 0.4 and 2.5 < ratio.max() < 4
  first = masks.any(2).argmax(1)[area > 0]
  room = side - rows[area > 0]
  assert abs((first / np.maximum(room, 1)).mean() - 0.5) < 0.03


def test_no_single_box_with_probability_zero_and_always_with_one():
  keys = jax.vmap(jax.random.key)(jnp.arange(200))
  for p in (0.0, 1.0):
    masks = draw_single_box_masks(keys, height=20, width=30, probability=p)
    assert (np.asarray(masks).any((1, 2)) == bool(p)).all()
  one = draw_single_box_masks(keys[7:8], height=20, width=30, probability=1.0)
  np.testing.assert_array_equal(one[0], masks[7])
