"""Starts a run from the networks of another run, also with another number of classes."""

from typing import Any

import jax
import numpy as np
from absl import logging

from semiseg_jax import inference, sharding
from semiseg_jax.checkpoints import CheckpointError
from semiseg_jax.methods.contract import Method
from semiseg_jax.train_state import TrainState

Tree = Any
# The only parameters whose shape may differ: they count the classes.
CLASSIFIER = "classifier"


def start_from(workdir: str, method: Method, state: TrainState) -> TrainState:
  """Returns `state` with the evaluated networks of `workdir`'s last checkpoint put in.

  A classifier of another number of classes keeps its fresh values, and a line says so.  Where this
  run has more networks than that one, they are dealt out in turn; optimizer and step stay fresh.

  Raises:
    CheckpointError: no checkpoint, or networks of another architecture; names the parameter and
      both shapes.
  """
  stack = method.stacks[method.evaluated]
  trained = inference.load_trained(workdir, "last", stack.mesh)
  copies = [k % trained.n for k in range(stack.n)]
  kept: list[str] = []

  def placed(old: Tree, new: Tree) -> Tree:
    merged = _merge(old, new, copies, workdir, kept)
    return jax.device_put(merged, sharding.stack_sharding(stack.mesh, stack.n))

  params = placed(trained.params, state.params[stack.name])
  stats = placed(trained.batch_stats, state.state["batch_stats"][stack.name])
  if kept:
    logging.warning("init_from %s: kept fresh, other class count: %s.", workdir, ", ".join(kept))
  batch_stats = {**state.state["batch_stats"], stack.name: stats}
  return TrainState(
    state.step,
    {**state.params, stack.name: params},
    {**state.state, "batch_stats": batch_stats},
    state.opt_state,
  )


def _merge(old: Tree, new: Tree, copies: list[int], workdir: str, kept: list[str]) -> Tree:
  old_leaves = dict(_paths(old))
  new_leaves = dict(_paths(new))
  if old_leaves.keys() != new_leaves.keys():
    odd = sorted(old_leaves.keys() ^ new_leaves.keys())[0]
    raise CheckpointError(
      f"init_from={workdir!r} has networks of another architecture: {odd} is in one of the two "
      "only. Give this run the same model block."
    )
  merged = {}
  for path, fresh in new_leaves.items():
    found = np.asarray(old_leaves[path])[copies]
    if found.shape == fresh.shape:
      merged[path] = found
    elif CLASSIFIER in path.split("/"):
      kept.append(path)
      merged[path] = np.asarray(fresh)
    else:
      raise CheckpointError(
        f"init_from={workdir!r}: {path} has the shape {found.shape[1:]} there and "
        f"{fresh.shape[1:]} here. Give this run the same model block and channels."
      )
  leaves = [merged[path] for path, _ in _paths(new)]
  return jax.tree.unflatten(jax.tree.structure(new), leaves)


def _paths(tree: Tree) -> list[tuple[str, Any]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [("/".join(str(key.key) for key in path), leaf) for path, leaf in leaves]
