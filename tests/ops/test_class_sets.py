"""Sets of pixels by class, draws from them, rings: against lists in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops import class_sets
from semiseg_jax.ops.class_memory import empty_rings, held, push
from tests.methods import contrast_loops

SIZES, WIDTH = (5, 3, 4), 2


def test_draws_reach_every_pixel_of_a_class_and_no_other():
  y = np.array([2, 0, IGNORE, 2, 1, 2, 0, 2], np.uint8)
  mask = np.array([1, 1, 1, 1, 0, 1, 1, 0], bool)
  sets = class_sets.sets_of(jnp.asarray(y), jnp.asarray(mask), 4)
  assert sets.count.tolist() == [2, 0, 3, 0]
  u = jnp.linspace(0, 1, 301, dtype=jnp.float32)  # 1 as well: where a sum was rounded up
  found = np.asarray(class_sets.drawn(sets, 2, u))
  assert [int((found == i).sum()) for i in (0, 3, 5)] == [100, 100, 101]
  assert set(np.asarray(class_sets.drawn(sets, 0, u))) == {1, 6}
  each = class_sets.drawn(sets, jnp.array([[0, 2], [2, 0]]), jnp.array([[0.9, 0.9], [0.0, 0.0]]))
  assert each.tolist() == [[6, 5], [0, 1]]


def test_the_contrast_is_finite_without_length():
  zero = jnp.zeros((2, 3))
  run = lambda a: class_sets.info_nce(a, zero[0], jnp.ones((2, 4, 3)), 0.5)
  value, gradient = jax.value_and_grad(run)(zero)
  np.testing.assert_allclose(value, np.log(5), rtol=1e-6)
  assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("most", [1, 3])
def test_rings_equal_lists(most):
  rng = np.random.default_rng(0)
  rings = jax.tree.map(lambda x: jnp.asarray(x[0]), empty_rings(1, SIZES, WIDTH, "float32"))
  expected = [contrast_loops.Ring(size, WIDTH) for size in SIZES]
  run = jax.jit(lambda *args: push(*args, sizes=SIZES))
  for step in range(7):
    E = rng.normal(size=(9, WIDTH)).astype(np.float32)
    enters = rng.random((9, 3)) < (0.0, 0.2, 0.9)[step % 3]
    u = rng.random(most).astype(np.float32)
    rings = run(rings, E, enters, u)
    for c, ring in enumerate(expected):
      ring.push(list(E[enters[:, c]]), most, u)
      first = sum(SIZES[:c])
      np.testing.assert_allclose(rings["keys"][first : first + SIZES[c]], ring.places, rtol=1e-6)
      assert (rings["at"][c], rings["filled"][c]) == (ring.at, ring.filled)
  u = jnp.linspace(0, 0.999, 40)
  found = {tuple(row) for row in np.asarray(held(rings, 1, u, SIZES))}
  assert found == {tuple(np.float32(row)) for row in expected[1].places[: expected[1].filled]}


def test_rings_hold_what_their_dtype_says():
  rings = empty_rings(2, SIZES, WIDTH, "bfloat16")
  assert rings["keys"].shape == (2, 12, WIDTH) and rings["keys"].dtype == jnp.bfloat16
  one = jax.tree.map(lambda x: jnp.asarray(x[0]), rings)
  E, enters = jnp.full((1, WIDTH), 1.001), jnp.ones((1, 3), bool)
  one = push(one, E, enters, jnp.zeros(1), sizes=SIZES)
  assert one["keys"].dtype == jnp.bfloat16 and one["filled"].tolist() == [1, 1, 1]
