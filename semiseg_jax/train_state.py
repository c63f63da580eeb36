"""The train state and THE step: one pure function, shared by every method."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from semiseg_jax.methods.contract import Method

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
  """Everything that a step changes.

  step: int32 scalar, the number of updates done.
  params: dict stack name -> stacked parameters.
  state: dict: 'batch_stats' (stack name -> stacked statistics) and what the method keeps beside.
  opt_state: of optax, over the trained stacks.
  """

  step: jax.Array
  params: dict[str, Tree]
  state: dict[str, Tree]
  opt_state: Tree


def trained(method: Method, params: dict[str, Tree]) -> dict[str, Tree]:
  """Returns the stacks that the optimizer moves."""
  return {name: params[name] for name in method.trained}


def make_train_step(
  method: Method, optimizer: optax.GradientTransformation, seed: int
) -> Callable[[TrainState, Tree, int], tuple[TrainState, dict[str, tuple[jax.Array, jax.Array]]]]:
  """Returns step(train_state, batch, phase) -> (train_state, metrics as (sum, count)).

  Pure; jit it with `phase` static.  When the loss or a gradient is not finite the old state is
  kept whole (only the metric `finite` tells): the host, one step behind, then stops the run.
  """

  def step(ts: TrainState, batch: Tree, phase: int) -> tuple[TrainState, dict]:
    key = jax.random.fold_in(jax.random.key(seed), ts.step)

    def loss(moved: dict[str, Tree]) -> tuple[jax.Array, Any]:
      return method.loss({**ts.params, **moved}, ts.state, batch, key, ts.step, phase)

    moved = trained(method, ts.params)
    (total, (state, aux, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(moved)
    updates, opt_state = optimizer.update(grads, ts.opt_state, moved)
    params = {**ts.params, **optax.apply_updates(moved, updates)}
    if method.after_update is not None:
      params, state = method.after_update(params, state, aux, ts.step)
    new = TrainState(ts.step + 1, params, state, opt_state)

    grad_norm = optax.global_norm(grads)
    finite = jnp.isfinite(total) & jnp.isfinite(grad_norm)
    new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, ts)
    one = jnp.ones((), jnp.float32)
    return new, {
      **metrics,
      "loss": (total, one),
      "grad_norm": (grad_norm, one),
      "finite": (finite.astype(jnp.float32), one),
    }

  return step
