"""Flaw maps against the reference's arrays and against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops import flaws
from semiseg_jax.ops.ramps import ramp
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden
from tests.methods import flaw_loops

last = lambda x: np.moveaxis(x, -3, -1)


@pytest.fixture(scope="module")
def g():
  return golden("gct_losses")


def _probabilities(g, low):
  return jax.nn.softmax(resize_bilinear(low, g["label"].shape[-2:], align_corners=True))


def _pair(g, name):
  """[2,B,H,W] of the maps of both networks."""
  return jnp.stack([g[f"{name}_{k}"][:, 0] for k in "lr"])


def test_golden_kernels(g):
  sizes = [name for name in g if name.startswith("kernel_") and name[7:].isdigit()]
  assert sizes
  for name in sizes:
    kernel = flaws.blur_kernel(int(name[7:]))
    np.testing.assert_allclose(np.outer(kernel, kernel), g[name], atol=1e-7, err_msg=name)
  for name, share in (("fdgt_blur", 8), ("fdgt_reblur", 4), ("handler_blur", 16)):
    kernel = flaws.blur_kernel(flaws.odd_size(int(g["im_size"]), share))
    np.testing.assert_allclose(np.outer(kernel, kernel), g[f"kernel_{name}"], atol=1e-7)


def test_golden_targets_of_the_flaw_detector(g):
  n = int(g["labeled_batch"])
  p = jnp.stack([_probabilities(g, last(g[f"low_{k}"][:n])) for k in "lr"])
  constants = {"side": int(g["im_size"]), "mu": float(g["mu"]), "nu": int(g["nu"])}
  y = jnp.asarray(g["label"][:n, 0])
  target = jax.jit(lambda p: flaws.flaw_target(p, y, **constants, ignored_flawed=True))(p)
  np.testing.assert_allclose(target, _pair(g, "flaw_gt"), atol=1e-4)
  ours = flaws.flaw_target(p, y, **constants, ignored_flawed=False)
  assert np.abs(ours - target).max() > 0.1


def test_golden_handled_maps(g):
  F, side = _pair(g, "flaw"), int(g["im_size"])
  expected = _pair(g, "handled")
  found = flaws.handled(F, side=side, negative_flawless=True)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  ours = flaws.handled(F, side=side, negative_flawless=False)
  np.testing.assert_allclose(ours, np.maximum(expected, 0), atol=1e-4)
  np.testing.assert_allclose(jnp.maximum(F[0], 0), g["flaw_l_after_handler"][:, 0], atol=1e-6)


def test_golden_dynamic_consistency(g):
  inside = jnp.ones(g["fc_mask"][:, 0].shape, bool)
  learns, both_bad = flaws.exchange(_pair(g, "handled"), float(g["dc_threshold"]), inside)
  assert np.mean(np.asarray(both_bad) != g["fc_mask"][:, 0]) < 2e-3
  low = jnp.stack([last(g[f"low_{k}"]) for k in "lr"])
  p = _probabilities(g, low)
  targets = jnp.where(learns[..., None], p[::-1], p)
  for k, target in zip("lr", targets):
    # Where both are bad and are not in the file, targets are other ones.
    off = np.abs(target[:, ::3, ::3] - last(g[f"dc_gt_{k}"])).max(-1) > 1e-4
    assert np.mean(off) < 2e-3
  for k, name in enumerate("lr"):
    loss = lambda z, k=k: flaws.disagreement(_probabilities(g, z), learns)[k].mean()
    value, gradient = jax.jit(jax.value_and_grad(loss))(low)
    np.testing.assert_allclose(value, g[f"loss_dc_{name}"], rtol=1e-4)
    expected = last(g[f"grad_dc_{name}"])
    np.testing.assert_allclose(gradient[k], expected, atol=1e-3 * np.abs(expected).max())
    assert not np.any(gradient[1 - k]), "the teacher must not move"


def test_golden_ramp(g):
  for t, expected in zip(g["rampup_step"], g["rampup"]):
    np.testing.assert_allclose(ramp("sigmoid", t, int(g["rampup_total"])), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5, 17])
def test_blur_equals_loops(size):
  kernel = flaws.blur_kernel(size)
  np.testing.assert_allclose(kernel, flaw_loops.kernel(size), atol=1e-12)
  assert kernel.shape == (size,) and abs(kernel.sum() - 1) < 1e-12
  x = np.random.default_rng(0).normal(size=(2, 9, 11))
  np.testing.assert_allclose(
    flaws.blur(jnp.asarray(x), size), flaw_loops.blur(x, size), rtol=1e-4, atol=1e-5
  )


def test_a_picture_smaller_than_the_blur_is_refused():
  flaws.blur_matrix(5, 9)
  with pytest.raises(ValueError, match="blur of 9 pixels needs more than 4 pixels; there are 4"):
    flaws.blur_matrix(4, 9)


@pytest.mark.parametrize(
  "side, sizes", [(321, (41, 81, 21)), (512, (65, 129, 33)), (513, (65, 129, 33)), (8, (1, 3, 1))]
)
def test_sizes_of_the_blurs(side, sizes):
  assert tuple(flaws.odd_size(side, share) for share in (8, 4, 16)) == sizes


@pytest.mark.parametrize("quirk", [False, True])
def test_handled_maps_equal_loops(quirk):
  F = np.random.default_rng(1).normal(size=(2, 3, 32, 40)).astype(np.float32)
  F[0, 1] = 0.01 * np.abs(F[0, 1]) + 0.02  # flawless, but not 0
  F[1, 1] = -1
  found = flaws.handled(jnp.asarray(F), side=32, negative_flawless=quirk)
  np.testing.assert_allclose(found, flaw_loops.handled(F, 32, quirk), atol=1e-4)
  assert (np.asarray(found)[0, 1] < 0).all() == quirk


def test_the_worse_network_learns_and_bad_ones_are_equal():
  h = jnp.asarray([[[[0.2, 0.5, 0.7, 0.9, 0.4]]], [[[0.3, 0.1, 0.9, 0.5, 0.4]]]])
  everywhere = jnp.ones((1, 1, 5), bool)
  learns, both_bad = flaws.exchange(h, 0.6, everywhere)
  assert learns[:, 0, 0].tolist() == [[False, True, False, True, False], [True] + [False] * 4]
  assert both_bad[0, 0].tolist() == [False, False, True, False, False]
  learns, both_bad = flaws.exchange(h, 0.6, everywhere.at[0, 0, 1:3].set(False))
  assert learns[:, 0, 0].tolist() == [[False, False, False, True, False], [True] + [False] * 4]
  assert not both_bad.any()


def test_clamped_flaws_have_the_gradient_of_all():
  F = jnp.asarray([-2.0, 0.5, 3.0])
  value, gradient = jax.value_and_grad(lambda f: jnp.square(flaws.clamped(f) - 0.25).sum())(F)
  np.testing.assert_allclose(value, 0.25**2 + 0.25**2 + 2.75**2, rtol=1e-6)
  np.testing.assert_allclose(gradient, [-0.5, 0.5, 5.5], rtol=1e-6)
