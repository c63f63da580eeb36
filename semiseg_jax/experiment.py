"""From a config to the objects of a run: mesh, networks, method, optimizer, first state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import optimizers, sharding, stacks
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import MakeStack, Method
from semiseg_jax.models.network import build_network
from semiseg_jax.stacks import Stack
from semiseg_jax.train_state import TrainState, trained

Tree = Any


def stack_maker(config: ConfigDict, mesh: Mesh, *, classes: int, channels: int) -> MakeStack:
  """Returns (name, n) -> a stack of n of the networks that `config.model` describes."""
  network = build_network(config.model, num_classes=classes, in_channels=channels)
  return lambda name, n: Stack(name, n, network, mesh)


def make_method(config: ConfigDict, mesh: Mesh, *, classes: int, channels: int) -> Method:
  """Returns the method `config.method.name` on the networks of `config.model`."""
  make_stack = stack_maker(config, mesh, classes=classes, channels=channels)
  return contract.find(config.method.name).build(config, make_stack)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
  """Returns SGD with the poly schedule of `config.optimizer` over `config.train.steps`."""
  o = config.optimizer
  return optimizers.sgd(
    learning_rate=o.learning_rate,
    power=o.power,
    steps=config.train.steps,
    momentum=o.momentum,
    weight_decay=o.weight_decay,
  )


def initial_state(
  config: ConfigDict, method: Method, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step, placed on the devices.

  Parameters are drawn with numpy, every copy on its own; a pretrained backbone then replaces the
  encoder of every copy, so that the networks differ in their heads only.
  """
  params, stats = {}, {}
  for name, stack in method.stacks.items():
    p, s = stacks.init(stack, config.seed)
    if config.model.pretrained:
      p, s = _with_backbone(config, stack, p, s)
    placed = sharding.stack_sharding(stack.mesh, stack.n)
    params[name], stats[name] = jax.device_put((p, s), placed)
  mesh = next(iter(method.stacks.values())).mesh
  everywhere = sharding.replicated(mesh)
  own = jax.device_put(method.extra_state(), everywhere)
  moved = trained(method, params)
  opt_state = jax.tree.map(
    lambda leaf: leaf if leaf.ndim else jax.device_put(leaf, everywhere), optimizer.init(moved)
  )
  step = jax.device_put(jnp.zeros((), jnp.int32), everywhere)
  return TrainState(step, params, {"batch_stats": stats, **own}, opt_state)


def _with_backbone(config: ConfigDict, stack: Stack, params: Tree, stats: Tree) -> tuple:
  from semiseg_jax.models.pretrained import load_backbone

  encoder, running = load_backbone(config.model.pretrained, config.model.backbone)

  def on_every_copy(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: np.stack([leaf] * stack.n), tree)

  return {**params, "encoder": on_every_copy(encoder)}, {
    **stats,
    "encoder": on_every_copy(running),
  }
