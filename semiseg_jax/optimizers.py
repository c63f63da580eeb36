"""SGD and the poly schedule, as PyTorch runs them, over stacked parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any


def poly(base: float, power: float, steps: int, t: Any) -> Any:
  """Returns base * (1 - t / steps) ** power, the learning rate of update t = 0 .. steps - 1.

  Works on Python numbers, numpy arrays (float64) and jax arrays.
  """
  return base * (1 - t / steps) ** power


def is_decayed(path: tuple[str, ...]) -> bool:
  """Whether weight decay acts on this parameter: convolution kernels yes, BN and biases no."""
  return path[-1] == "kernel"


def decay_mask(params: Tree) -> Tree:
  """Returns booleans shaped as `params`; decided by path, never by rank (a stack adds an axis)."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: is_decayed(tuple(key.key for key in path)), params
  )


def sgd(
  *, learning_rate: float, power: float, steps: int, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
  """Returns PyTorch's SGD (dampening 0, no Nesterov) with the poly schedule.

  g' = g + wd theta;  v <- momentum v + g';  theta <- theta - lr(t) v,  lr(t) = poly(...), t counted
  from 0 at the first update.  One optimizer over the stack equals one per network.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=decay_mask),
    optax.trace(decay=momentum),
    optax.scale_by_learning_rate(
      lambda t: poly(learning_rate, power, steps, jnp.asarray(t, jnp.float32))
    ),
  )
