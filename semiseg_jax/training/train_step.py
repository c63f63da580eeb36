"""THE step: one pure function, shared by every method."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from semiseg_jax import sharding
from semiseg_jax.methods.method import Method
from semiseg_jax.state import TrainState
from semiseg_jax.training import optimizers
from semiseg_jax.training.metrics import pack

Tree = Any


def trained(method: Method, params: dict[str, Tree]) -> dict[str, Tree]:
  """Returns the stacks that the optimizer moves."""
  return {name: params[name] for name in method.trained}


Phase = frozenset[str]


def make_train_step(
  method: Method, optimizer: optax.GradientTransformation, seed: int, accumulate: int
) -> Callable[[TrainState, Tree, Phase], tuple[TrainState, dict[str, tuple[jax.Array, jax.Array]]]]:
  """Returns step(train_state, batch, phase) -> (train_state, metrics as (sum, count)).

  Pure; jit it with `phase` static.  When the loss or a gradient is not finite the old state is
  kept whole (only the metric `finite` tells): the host, one step behind, then stops the run.

  With `accumulate` = k > 1 every array of the batch is [k, B/k, ...], and the gradient is the mean
  over the k parts, run one after the other: batch statistics and losses are those of a part.
  """

  def step(ts: TrainState, batch: Tree, phase: Phase) -> tuple[TrainState, dict]:
    key = jax.random.fold_in(jax.random.key(seed), ts.step)
    fixed_params, fixed_stats = ({k: v[i] for k, v in ts.fixed.items()} for i in (0, 1))

    def loss(moved: dict[str, Tree], carried: Tree, batch: Tree) -> tuple[jax.Array, Any]:
      stats, memory = carried
      params = {**ts.params, **fixed_params, **moved}
      total, out = method.loss(params, {**stats, **fixed_stats}, memory, batch, key, ts.step, phase)
      stats = {name: out.stats[name] for name in stats}
      return total, ((stats, out.memory), out.metrics)

    moved = trained(method, ts.params)
    gradient = functools.partial(jax.value_and_grad(loss, has_aux=True), moved)
    batch = _with_rows(batch, accumulate)
    carried = (ts.stats, ts.memory)
    if accumulate == 1:
      (total, (carried, measured)), grads = gradient(carried, batch)
    else:
      total, carried, measured, grads = _accumulated(gradient, carried, batch, accumulate)
    updates, opt_state = optimizer.update(grads, ts.opt_state, moved)
    lengths = optimizers.norms(moved, updates)
    params = {**ts.params, **optax.apply_updates(moved, updates)}
    params, stats, memory = method.after_update(params, *carried, ts.step)
    new = TrainState(ts.step + 1, params, stats, memory, opt_state, ts.fixed)

    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(total) & jnp.isfinite(grad_norm)
    new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, ts)
    new.fixed = ts.fixed
    one = jnp.ones((), jnp.float32)
    return new, {
      **measured,
      **{name: (length, one) for name, length in lengths.items()},
      "loss": (total, one),
      "grad_norm": (grad_norm, one),
      "finite": (finite.astype(jnp.float32), one),
    }

  return step


def jitted_step(
  method: Method, optimizer: optax.GradientTransformation, config: ConfigDict, state: TrainState
) -> tuple[Callable[[TrainState, Tree, Phase], tuple[TrainState, jax.Array]], dict[Phase, Tree]]:
  """Returns the jitted step (its metrics packed), and the shapes of the metrics by phase.

  The shapes of a phase are there once it was traced.  The state keeps its placement
  (`out_shardings` are its own) and is donated; the batch is placed by `put_batch`, rows over
  `data`; the packed metrics are replicated.
  """
  plain = make_train_step(method, optimizer, config.seed, config.train.accumulate)
  shapes: dict[Phase, Any] = {}

  def step(state: TrainState, batch: Tree, phase: Phase) -> tuple[TrainState, jax.Array]:
    state, measured = plain(state, batch, phase)
    shapes[phase] = jax.eval_shape(lambda: measured)
    return state, pack(measured)

  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  everywhere = sharding.replicated(state.step.sharding.mesh)
  jitted = jax.jit(
    step,
    static_argnums=2,
    donate_argnums=0,
    out_shardings=(placed, everywhere),
  )
  return jitted, shapes


def is_finite(tree: Tree) -> bool:
  """Whether all numbers are finite; waits for them.

  Not a part of the step: there it makes compiling four times as long on a CPU.
  """
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  if sharding.in_host_memory(leaves):
    return all(np.isfinite(x).all() for x in leaves)
  return bool(_all_finite(leaves))


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
  """0 x is NaN where x is not finite; a sum of it compiles faster than one test for each leaf."""
  return jnp.isfinite(sum(jnp.sum(0 * x, dtype=jnp.float32) for x in leaves))


def _with_rows(batch: Tree, parts: int) -> Tree:
  """Gives every stream the numbers of its pictures in the global batch."""
  numbered = {}
  for name, stream in batch.items():
    shape = stream["image"].shape[: 1 if parts == 1 else 2]
    numbered[name] = {**stream, "row": jnp.arange(math.prod(shape)).reshape(shape)}
  return numbered


def _accumulated(
  gradient: Callable[[Tree, Tree], Any], carried: Tree, batch: Tree, parts: int
) -> tuple[jax.Array, Tree, Tree, Tree]:
  """Returns the mean loss, what is carried, the summed metrics and the mean gradient.

  The parts are the iterations of a loop, so that only one of them is in memory.  XLA on a CPU runs
  convolutions slowly inside of a loop: there it is unrolled.
  """

  def body(carry: Tree, part: Tree) -> tuple[Tree, Tree]:
    carried, total, grads = carry
    (loss, (carried, metrics)), new = gradient(carried, part)
    return (carried, total + loss, jax.tree.map(jnp.add, grads, new)), metrics

  first = jax.tree.map(lambda x: x[0], batch)
  shapes = jax.eval_shape(gradient, carried, first)
  (loss, _), grads = shapes
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, grads))
  (carried, total, grads), metrics = jax.lax.scan(
    body, (carried, *zeros), batch, unroll=parts if jax.default_backend() == "cpu" else 1
  )
  metrics = jax.tree.map(lambda x: jnp.sum(x, 0), metrics)
  return total / parts, carried, metrics, jax.tree.map(lambda g: g / parts, grads)
