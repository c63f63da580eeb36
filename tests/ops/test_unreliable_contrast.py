"""U2PL's contrast against loops in numpy: ranks, negatives, memory, quirks."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.class_memory import empty_rings
from semiseg_jax.ops.keys import named_key
from semiseg_jax.ops.unreliable_contrast import Seen, memory_contrast, ranks
from tests.methods import contrast_loops

P, C, D = 60, 5, 3
SIZES = (9, 6, 6, 6, 6)
OPTIONS = SimpleNamespace(
  entering=4, low_rank=2, high_rank=4, probability=0.25, temperature=0.4, anchors=7,
  negatives=3,
)  # fmt: skip
KEY = jax.random.key(4)


def _seen(seed, absent=()):
  rng = np.random.default_rng(seed)
  p = rng.dirichlet(np.ones(C), P).astype(np.float32)
  y = np.where(rng.random(P) < 0.6, p.argmax(1), rng.integers(0, C, P)).astype(np.uint8)
  y[np.isin(y, absent)] = 255
  y[rng.random(P) < 0.1] = 255
  labeled = np.arange(P) < P // 2
  low, high = ((rng.random(P) < 0.6) & (y != 255) for _ in range(2))
  low[labeled] = high[labeled] = (y != 255)[labeled]
  E, T = rng.normal(size=(2, P, D)).astype(np.float32)
  return Seen(E, T, p, y, low, high, labeled)


def _u(name, c):
  """The uniform numbers of a draw."""
  if name == "push":
    return np.asarray(jax.random.uniform(named_key(KEY, name), (OPTIONS.entering,)))
  shape = {"anchor": (OPTIONS.anchors,), "negative": (OPTIONS.anchors, OPTIONS.negatives)}[name]
  return np.asarray(jax.random.uniform(jax.random.fold_in(named_key(KEY, name), c), shape))


@pytest.mark.parametrize("quirk", ["", "own_class", "shifted"])
def test_loss_and_memory_equal_loops(quirk):
  quirks = {quirk: True} if quirk else {}
  run = functools.partial(memory_contrast, key=KEY, sizes=SIZES, **vars(OPTIONS), **quirks)
  of_E = lambda E, seen, rings: run(seen._replace(E=E), rings)
  step = jax.jit(jax.value_and_grad(of_E, has_aux=True))
  rings = jax.tree.map(lambda x: jnp.asarray(x[0]), empty_rings(1, SIZES, D, "float32"))
  loops, losses = [contrast_loops.Ring(size, D) for size in SIZES], []
  for seed, absent in ((0, ()), (1, (0, 2)), (2, (0, 1, 2, 3)), (3, ())):
    seen = _seen(seed, absent)
    (loss, rings), gradient = step(seen.E, seen, rings)
    wide = Seen(*(np.float64(x) if x.dtype == np.float32 else x for x in seen))
    expected = contrast_loops.u2pl(wide, loops, _u, OPTIONS, **quirks)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    found = np.concatenate([ring.places for ring in loops])
    np.testing.assert_allclose(rings["keys"], found, rtol=1e-6)
    assert rings["filled"].tolist() == [ring.filled for ring in loops]
    assert np.any(gradient) == (expected > 0) and np.isfinite(gradient).all()
    losses.append(expected)
  assert losses[0] > 0 and losses[2] == 0, "with and without two present classes"


def test_a_gradient_reaches_anchors_alone():
  seen = _seen(5)
  rings = jax.tree.map(lambda x: jnp.asarray(x[0]), empty_rings(1, SIZES, D, "float32"))
  run = lambda E, T: memory_contrast(
    seen._replace(E=E, T=T), rings, KEY, sizes=SIZES, **vars(OPTIONS)
  )[0]
  of_E, of_T = jax.jit(jax.grad(run, (0, 1)))(seen.E, seen.T)
  own = seen.p[np.arange(P), np.minimum(seen.y, C - 1)]
  sure = seen.low & (seen.y < C) & (own > OPTIONS.probability)
  assert np.any(of_E) and not np.any(of_E[~sure]) and not np.any(of_T)


def test_ranks_count_from_the_most_likely():
  p = jnp.asarray([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])
  assert ranks(p).tolist() == [[2, 0, 1], [0, 2, 1]]
