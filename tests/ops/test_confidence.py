"""Confident pseudo labels against loops over pixels, and the mining that UniMatch ships."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import pixel_contrast_city
from semiseg_jax.ops import confidence
from semiseg_jax.ops.losses import cross_entropy, ohem_keep, weighted_cross_entropy
from tests.golden_files import golden

N, B, H, W, C = 2, 4, 3, 5, 6


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@pytest.fixture
def drawn():
  rng = np.random.default_rng(0)
  P, teacher = (3 * rng.normal(size=(N, B, H, W, C)).astype(np.float32) for _ in range(2))
  return P, teacher, rng.random((B, H, W)) < 0.7


def test_what_is_taught(drawn):
  _, teacher, inside = drawn
  m, c, g = confidence.taught(jnp.asarray(teacher), jnp.asarray(inside))
  np.testing.assert_array_equal(m, teacher.argmax(-1))
  np.testing.assert_allclose(c, _softmax(np.float64(teacher)).max(-1), rtol=1e-5)
  np.testing.assert_array_equal(g[0], inside)
  assert m.dtype == jnp.uint8
  through = lambda x: confidence.taught(x, jnp.asarray(inside)).c.sum()
  assert not jax.grad(through)(jnp.asarray(teacher)).any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_the_sums_over_pixels(drawn, threshold, groups):
  P, teacher, inside = drawn
  Y = confidence.taught(jnp.asarray(teacher), jnp.asarray(inside))
  total, count = confidence.confident_cross_entropy_sums(jnp.asarray(P), Y, threshold, groups)
  expected, pixels = np.zeros((N, groups)), np.zeros((N, groups))
  p, q = _softmax(np.float64(P)), _softmax(np.float64(teacher))
  for n, b, i, j in np.ndindex(N, B, H, W):
    if inside[b, i, j]:
      group = b // (B // groups)
      pixels[n, group] += 1
      if q[n, b, i, j].max() >= threshold:
        expected[n, group] -= np.log(p[n, b, i, j, q[n, b, i, j].argmax()])
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  np.testing.assert_array_equal(count, pixels)
  share = confidence.sure(Y, 0.8).mean()
  assert 0.1 < share < inside.mean() - 0.1


def test_pasting_takes_all_three_from_the_partner(drawn):
  P, teacher, inside = drawn
  M = np.random.default_rng(1).random((B, H, W)) < 0.5
  own = confidence.taught(jnp.asarray(teacher), jnp.asarray(inside))
  theirs = confidence.taught(jnp.asarray(P), jnp.asarray(~inside))
  for found, a, b in zip(confidence.pasted(jnp.asarray(M), theirs, own), theirs, own):
    np.testing.assert_array_equal(found, np.where(M[None], a, b))


@pytest.mark.parametrize("groups, rows", [(1, [5, 4, 3, 2, 1, 0]), (2, [2, 1, 0, 5, 4, 3])])
def test_reversed_rows(groups, rows):
  x = np.arange(2 * 6 * 3).reshape(2, 6, 3)
  np.testing.assert_array_equal(confidence.reversed_rows(jnp.asarray(x), 1, groups), x[:, rows])
  np.testing.assert_array_equal(confidence.reversed_rows(jnp.asarray(x[0]), 0, groups), x[0, rows])


class TestMining:
  """`ohem_unimatch`: the pixels that stay, their mean, its gradient."""

  @pytest.fixture(scope="class")
  def g(self):
    return golden("ohem_unimatch")

  def _kept(self, g, combo):
    threshold, min_kept = g["combos"][combo]
    P = jnp.asarray(np.moveaxis(g["pred"], 1, -1)[None])
    y = jnp.asarray(g["target"][None])
    return P, y, ohem_keep(P, y, threshold=float(threshold), min_kept=int(min_kept), group=0)

  def test_pixels_and_losses(self, g):
    assert (g["target"] != 255).sum() == g["num_valid"]
    for combo in range(len(g["combos"])):
      P, y, keep = self._kept(g, combo)
      np.testing.assert_array_equal(keep[0], g[f"kept_mask_{combo}"])
      assert keep.sum() == g["kept"][combo]
      (loss,), _ = cross_entropy(P, y, keep=keep)
      np.testing.assert_allclose(loss, g["losses"][combo], rtol=1e-6)

  def test_gradients(self, g):
    graded = [name for name in g if name.startswith("grad_")]
    assert graded
    for name in graded:
      P, y, keep = self._kept(g, int(name.removeprefix("grad_")))
      found = jax.grad(lambda P, y=y, keep=keep: cross_entropy(P, y, keep=keep)[0].sum())(P)
      np.testing.assert_allclose(np.moveaxis(found[0], -1, 1), g[name], rtol=0, atol=1e-7)

  def test_class_weights(self, g):
    P, y, keep = self._kept(g, 1)
    weights = tuple(pixel_contrast_city.get_config().method.pixel_contrast.class_weights)
    (loss,), _ = weighted_cross_entropy(P, jnp.where(keep, y, 255)[0], weights)
    np.testing.assert_allclose(loss, g["weighted_loss_of_combo_1"], rtol=1e-6)
