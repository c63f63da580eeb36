"""SGD and the poly schedule, as PyTorch runs them, over stacked parameters."""

from collections.abc import Callable, Mapping
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


def decay_mask(params: Tree, decayed: str = "kernels") -> Tree:
  """Returns booleans shaped as `params`: the leaves that weight decay acts on.

  Decided by path, never by rank (a stack adds an axis).

  Args:
    params: nested dicts.
    decayed: 'kernels' (of convolutions and matrices; no norms, no biases) or 'all'.
  """
  return _by_path(params, lambda path: decayed == "all" or path[-1] == "kernel")


def factors(
  params: Tree, head_multiplier: float, frozen_norms: bool, idle: frozenset[str] = frozenset()
) -> Tree:
  """Returns the factor of the learning rate of each leaf.

  1 for the backbone ('encoder'), `head_multiplier` for everything else, 0 for scales and biases of
  normalisations where these are frozen, and for all of the modules named in `idle`.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params)
  norms = {_names(path)[:-1] for path, _ in leaves if _names(path)[-1] == "scale"}

  def factor(path: tuple[str, ...]) -> float:
    if (frozen_norms and path[:-1] in norms) or idle.intersection(path):
      return 0.0
    return 1.0 if "encoder" in path else head_multiplier

  return _by_path(params, factor)


def _names(path: Any) -> tuple[str, ...]:
  return tuple(key.key for key in path)


def _by_path(params: Tree, value: Callable[[tuple[str, ...]], Any]) -> Tree:
  return jax.tree_util.tree_map_with_path(lambda path, _: value(_names(path)), params)


def _scale_by(multipliers: Callable[[Tree], Tree]) -> optax.GradientTransformation:
  return optax.stateless(
    lambda updates, params: jax.tree.map(lambda u, f: u * f, updates, multipliers(updates))
  )


def sgd(
  *,
  learning_rate: float,
  power: float,
  steps: int,
  momentum: float,
  weight_decay: float,
  decayed: str = "kernels",
  head_multiplier: float = 1.0,
  frozen_norms: bool = False,
  idle: frozenset[str] = frozenset(),
) -> optax.GradientTransformation:
  """Returns PyTorch's SGD (dampening 0, no Nesterov) with the poly schedule.

  g' = g + wd theta;  v <- momentum v + g';  theta <- theta - f lr(t) v,  lr(t) = poly(...), t
  counted from 0 at the first update.  One optimizer over the stack equals one per network.

  Args:
    learning_rate, power, steps: of the schedule.
    momentum, weight_decay: see above.
    decayed: which leaves have weight decay, see `decay_mask`.
    head_multiplier, frozen_norms, idle: the factors f, see `factors`.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=lambda params: decay_mask(params, decayed)),
    optax.trace(decay=momentum),
    _scale_by(lambda updates: factors(updates, head_multiplier, frozen_norms, idle)),
    _poly_rate(learning_rate, power, steps),
  )


def adam(
  *, learning_rate: float, power: float, steps: int, betas: tuple[float, float], epsilon: float
) -> optax.GradientTransformation:
  """Returns PyTorch's Adam (no weight decay) with the poly schedule."""
  return optax.chain(
    optax.scale_by_adam(*betas, eps=epsilon), _poly_rate(learning_rate, power, steps)
  )


def _poly_rate(base: float, power: float, steps: int) -> optax.GradientTransformation:
  return optax.scale_by_learning_rate(
    lambda t: poly(base, power, steps, jnp.asarray(t, jnp.float32))
  )


def per_stack(
  transforms: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
  """Returns an optimizer of {stack: parameters} that gives each stack its own."""

  def init(params: Tree) -> Tree:
    return {name: transforms[name].init({name: tree}) for name, tree in params.items()}

  def update(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    found = {
      name: transforms[name].update({name: g}, state[name], {name: params[name]})
      for name, g in grads.items()
    }
    updates = {name: moved[name] for name, (moved, _) in found.items()}
    return updates, {name: state for name, (_, state) in found.items()}

  return optax.GradientTransformation(init, update)
