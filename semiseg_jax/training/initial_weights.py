"""Starts a run from the networks of another run, also with another number of classes."""

import dataclasses
from typing import Any

import jax
import numpy as np
from absl import logging

from semiseg_jax import sharding
from semiseg_jax.errors import CheckpointError
from semiseg_jax.evaluation import described, inference
from semiseg_jax.methods.contract import SEGMENTATION
from semiseg_jax.methods.method import Method
from semiseg_jax.stacks import Stack
from semiseg_jax.state import TrainState
from semiseg_jax.wording import counted
from semiseg_jax.workdir import store

Tree = Any
# The only parameters whose shape may differ: they count the classes.
CLASSIFIER = "classifier"


def start_from(workdir: str, method: Method, state: TrainState) -> TrainState:
  """Returns `state` with the evaluated networks of `workdir`'s last checkpoint as 'networks'.

  The method then relates its other stacks to them (`Method.start`): a teacher is a copy again.

  A classifier of another number of classes keeps its fresh values.  Where this run has n networks
  and that one m < n, the copies m .. n-1 take an encoder, in turn, and keep their fresh decoders:
  equal networks would agree for ever.  Both are said.  Optimizer and step stay fresh.

  Raises:
    CheckpointError: no checkpoint, or networks of another architecture; names the parameter and
      both shapes.
  """
  members = method.members[SEGMENTATION]
  trained = _load(workdir, members[0].stack.mesh)
  if len(trained.members) != len(members):
    raise CheckpointError(
      f"init_from={workdir!r} has {counted(len(trained.members), 'architecture')}, this run "
      f"{len(members)}: "
      "give both the same model.family."
    )
  params, stats, kept = dict(state.params), dict(state.stats), set()
  for here, there in zip(members, trained.members):
    stack, old = here.stack, there.stack

    def placed(saved: Tree, new: Tree, stack: Stack = stack, n: int = old.n) -> Tree:
      merged = _merge(saved, new, n, workdir, kept)
      return jax.device_put(merged, sharding.stack_sharding(stack.mesh, stack.n))

    params[stack.name] = placed(trained.params[old.name], params[stack.name])
    stats[stack.name] = placed(trained.batch_stats[old.name], stats[stack.name])
    _report(workdir, old.n, stack.n, kept)
  params, stats = method.start(params, stats)
  return dataclasses.replace(state, params=params, stats=stats)


def _load(workdir: str, mesh: jax.sharding.Mesh) -> inference.Trained:
  with store.opened(workdir, writes=False) as folder:
    if not (described.last_stage(folder) / "checkpoints").is_dir():
      raise CheckpointError(
        f"init_from={workdir!r} holds no checkpoints: give the folder that a training run wrote, "
        "or '' to start fresh."
      )
    try:
      return inference.load_trained(folder, "last", mesh)
    except CheckpointError as error:
      raise CheckpointError(f"init_from={workdir!r} cannot be used: {error}") from error


def _report(workdir: str, there: int, here: int, kept: set[str]) -> None:
  if kept:
    names = ", ".join(sorted(kept))
    logging.warning("init_from %s: kept fresh, other class count: %s.", workdir, names)
  for k in range(there, here):
    logging.warning(
      "init_from %s has %d networks: network %d takes the encoder of its network %d and keeps a "
      "fresh decoder, as equal networks learn nothing from each other.",
      *(workdir, there, k, k % there),
    )
  if here < there:
    logging.warning("init_from %s has %d networks: the first %d are used.", workdir, there, here)


def _merge(old: Tree, new: Tree, there: int, workdir: str, kept: set[str]) -> Tree:
  old_leaves = dict(_paths(old))
  new_leaves = dict(_paths(new))
  if old_leaves.keys() != new_leaves.keys():
    odd = sorted(old_leaves.keys() ^ new_leaves.keys())[0]
    raise CheckpointError(
      f"init_from={workdir!r} has networks of another architecture: {odd} is in one of the two "
      "only. Give this run the same model block."
    )
  merged = []
  for path, fresh in new_leaves.items():
    part, *rest = path.split("/")
    leaf = np.array(fresh)
    earlier = np.asarray(old_leaves[path])[np.arange(len(leaf)) % there]
    if earlier.shape == leaf.shape:
      end = there if part == "decoder" else len(leaf)
      leaf[:end] = earlier[:end]
    elif CLASSIFIER in rest:
      kept.add(path)
    else:
      raise CheckpointError(
        f"init_from={workdir!r}: {path} has the shape {earlier.shape[1:]} there and "
        f"{leaf.shape[1:]} here. Give this run the same model block and channels."
      )
    merged.append(leaf)
  return jax.tree.unflatten(jax.tree.structure(new), merged)


def _paths(tree: Tree) -> list[tuple[str, Any]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [("/".join(str(key.key) for key in path), leaf) for path, leaf in leaves]
