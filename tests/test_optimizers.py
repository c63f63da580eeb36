"""SGD and poly against PyTorch's update written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax import optimizers

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
    params = jax.tree.map(jnp.asarray, _params())
    sgd = optimizers.sgd(
      learning_rate=BASE, power=POWER, steps=STEPS, momentum=MOMENTUM, weight_decay=DECAY
    )
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
  mask = optimizers.decay_mask(_params())
  assert mask["encoder"]["conv"]["kernel"] and mask["decoder"]["classifier"]["kernel"]
  assert not mask["encoder"]["bn"]["scale"] and not mask["encoder"]["bn"]["bias"]
  assert not mask["decoder"]["classifier"]["bias"]


def test_poly_starts_at_the_full_rate_and_ends_above_zero():
  assert optimizers.poly(0.0025, 0.9, 40_000, 0) == 0.0025
  np.testing.assert_allclose(
    optimizers.poly(0.0025, 0.9, 40_000, 39_999), 0.0025 * (1 / 40_000) ** 0.9, rtol=1e-9
  )
