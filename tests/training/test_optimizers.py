"""SGD, Adam and poly against PyTorch's updates written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.training.optimizers import Optimizer, Options, build, decay_mask, poly

STEPS, BASE, POWER, MOMENTUM, DECAY = 5, 0.1, 0.9, 0.9, 0.02


def _params():
  rng = np.random.default_rng(0)
  return {
    "encoder": {
      "conv": {"kernel": rng.normal(size=(2, 3, 3, 4, 5))},  # two networks: five axes
      "bn": {"scale": rng.normal(size=(2, 5)), "bias": rng.normal(size=(2, 5))},
    },
    "decoder": {
      "classifier": {"kernel": rng.normal(size=(2, 1, 1, 5, 3)), "bias": rng.normal(size=(2, 3))}
    },
  }


def test_updates_equal_pytorch_sgd():
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, {"networks": _params()})
    options = Options(learning_rate=BASE, power=POWER, momentum=MOMENTUM, weight_decay=DECAY)
    sgd = build(options, STEPS)
    state = sgd.init(params)
    theta = jax.tree.leaves(_params())
    decayed = [x.ndim == 5 for x in theta]
    velocity = [np.zeros_like(x) for x in theta]
    rng = np.random.default_rng(1)
    for t in range(STEPS):
      grads = [rng.normal(size=x.shape) for x in theta]
      updates, state = sgd.update(
        jax.tree.unflatten(jax.tree.structure(params), map(jnp.asarray, grads)), state, params
      )
      params = jax.tree.map(lambda p, u: p + u, params, updates)
      lr = BASE * (1 - t / STEPS) ** POWER
      for i, g in enumerate(grads):
        g = g + DECAY * theta[i] * decayed[i]
        velocity[i] = MOMENTUM * velocity[i] + g
        theta[i] = theta[i] - lr * velocity[i]
    for found, expected in zip(jax.tree.leaves(params), theta):
      np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_decay_goes_by_path_not_by_rank():
  mask = decay_mask(_params(), "kernels")
  assert mask["encoder"]["conv"]["kernel"] and mask["decoder"]["classifier"]["kernel"]
  assert not mask["encoder"]["bn"]["scale"] and not mask["encoder"]["bn"]["bias"]
  assert not mask["decoder"]["classifier"]["bias"]


def test_poly_starts_at_the_full_rate_and_ends_above_zero():
  assert poly(0.0025, 0.9, 40_000, 0) == 0.0025
  np.testing.assert_allclose(
    poly(0.0025, 0.9, 40_000, 39_999), 0.0025 * (1 / 40_000) ** 0.9, rtol=1e-9
  )


def _moved(transform, params, grads):
  updates, _ = transform.update(grads, transform.init(params), params)
  return updates


def test_heads_move_faster_and_frozen_norms_do_not_move():
  params = jax.tree.map(jnp.asarray, {"networks": _params()})
  ones = jax.tree.map(jnp.ones_like, params)
  usual = dict(learning_rate=0.1, power=0.9, momentum=0.9, weight_decay=0.5)
  options = Options(**usual, decayed="all", head_multiplier=10.0, frozen_norms=True)
  found = _moved(build(options, 10), params, ones)["networks"]
  theta = params["networks"]
  for path, factor in ((("encoder", "conv", "kernel"), 1), (("decoder", "classifier", "bias"), 10)):
    p, u = theta, found
    for key in path:
      p, u = p[key], u[key]
    np.testing.assert_allclose(u, -0.1 * factor * (1 + 0.5 * p), rtol=1e-6)
  for leaf in jax.tree.leaves(found["encoder"]["bn"]):
    np.testing.assert_array_equal(leaf, 0)


def test_adam_equals_its_formula():
  with jax.enable_x64(True):
    theta, rng = np.array([1.0, -2.0, 3.0]), np.random.default_rng(0)
    adam = build(Options(power=0.9), 4, own={"d": Optimizer("adam", 0.1, 0.0, betas=(0.9, 0.99))})
    params = {"d": {"x": jnp.asarray(theta)}}
    state, m, v = adam.init(params), np.zeros(3), np.zeros(3)
    for t in range(4):
      g = rng.normal(size=3)
      updates, state = adam.update({"d": {"x": jnp.asarray(g)}}, state, params)
      params = jax.tree.map(jnp.add, params, updates)
      m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
      lr = 0.1 * (1 - t / 4) ** 0.9
      step = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + 1e-8)
      theta = theta - lr * step
    np.testing.assert_allclose(params["d"]["x"], theta, rtol=1e-6)


def test_every_stack_has_its_own_optimizer():
  params = {"a": {"kernel": jnp.ones(2)}, "b": {"kernel": jnp.ones(2)}}
  slow = Options(learning_rate=0.1, power=1, momentum=0, weight_decay=0)
  both = build(slow, 2, own={"b": Optimizer("sgd", 0.5, 0.0, momentum=0)})
  state = both.init(params)
  for rate in (1, 0.5):  # each counts its own steps
    updates, state = both.update(params, state, params)
    np.testing.assert_allclose(updates["a"]["kernel"], -0.1 * rate, rtol=1e-6)
    np.testing.assert_allclose(updates["b"]["kernel"], -0.5 * rate, rtol=1e-6)
