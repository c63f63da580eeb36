"""From a config to the objects of a run: mesh, networks, method, optimizer, first state."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import sharding, stacks
from semiseg_jax.data.augment import families
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import MakeStack, Method, Metrics
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.network import Network, build_network
from semiseg_jax.ops import photometry
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.stacks import Stack
from semiseg_jax.state import TrainState
from semiseg_jax.training import optimizers, rate_factors
from semiseg_jax.training.train_step import trained

Tree = Any


def stack_maker(config: ConfigDict, mesh: Mesh, *, classes: int, channels: int) -> MakeStack:
  """Returns (name, n) -> a stack of n of the networks that `config.model` describes.

  A third argument is another network.
  """
  segmentation = build_network(config.model, num_classes=classes, in_channels=channels)

  def make_stack(name: str, n: int, network: Any = segmentation) -> Stack:
    return Stack(name, n, network, mesh, config.train.bn_group)

  return make_stack


def make_method(config: ConfigDict, mesh: Mesh, *, classes: int, channels: int) -> Method:
  """Returns the method `config.method.name` on the networks of `config.model`.

  Raises:
    ConfigError: an unknown method, backbone or head, or one that cannot be built as asked.
  """
  try:
    make_stack = stack_maker(config, mesh, classes=classes, channels=channels)
    method = contract.find(config.method.name).build(config, make_stack)
    for stream in method.streams:
      families.make_augment(config, stream.view)
  except ValueError as error:  # nothing is computed here: the values of the config are at fault
    raise ConfigError(str(error)) from error
  method = _evaluating(config, method)
  if config.train.accumulate > 1 and not method.divisible:
    raise ConfigError(
      f"train.accumulate={config.train.accumulate}: method.name={config.method.name!r} needs the "
      "whole batch at once; set it to 1 and use a smaller batch or more devices."
    )
  return with_photometry(config, method)


def _evaluating(config: ConfigDict, method: Method) -> Method:
  """The method with `eval.stack` as the one that is evaluated."""
  name = config.eval.stack
  if not name:
    return method
  possible = [k for k, stack in method.stacks.items() if not isinstance(stack.network, Single)]
  if name not in possible:
    raise ConfigError(
      f"eval.stack={name!r}: method.name={config.method.name!r} has {', '.join(possible)}."
    )
  return dataclasses.replace(method, evaluated=name)


def with_photometry(config: ConfigDict, method: Method) -> Method:
  """Returns the method with its pictures changed as `data.labeled_photometry` and so on say."""
  kinds = {"labeled": config.data.labeled_photometry, "unlabeled": config.data.unlabeled_photometry}
  changed = {s.name: kinds[s.source] for s in method.streams if kinds[s.source] != "none"}
  if not changed:
    return method

  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    batch = dict(batch)
    for name, kind in changed.items():
      rows = batch[name]["row"]
      images = {field: x for field, x in batch[name].items() if field.startswith("image")}
      batch[name] = batch[name] | {
        field: photometry.every_view(x, example_keys(key, f"{name}/{field}", rows), kind, config)
        for field, x in images.items()
      }
    return method.loss(params, state, batch, key, step, phase)

  return dataclasses.replace(method, loss=loss)


def make_optimizer(config: ConfigDict, method: Method) -> optax.GradientTransformation:
  """Returns the optimizer of the trained stacks.

  That of `config.optimizer` over `config.train.steps`, but for the stacks to which the method gives
  an optimizer of their own.
  """
  o, own = optimizers.Options(**config.optimizer), method.optimizers
  networks = {name: method.stacks[name].network for name in method.trained if name not in own}
  return optimizers.build(
    o,
    config.train.steps,
    idle=frozenset(name for stack in method.stacks.values() for name in _idle(stack)),
    own=own,
    layers=rate_factors.layers_of(networks) if o.layer_decay != 1 else None,
  )


def _idle(stack: Stack) -> tuple[str, ...]:
  """The modules that the network of a stack holds and does not use."""
  return getattr(getattr(stack.network, "decoder", None), "idle", ())


def initial_state(
  config: ConfigDict, method: Method, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step, placed on the devices.

  Parameters are drawn with numpy, every copy on its own; a pretrained backbone then replaces the
  encoder of every copy, so that the networks differ in their heads only; then the method relates
  its stacks to each other (`Method.start`).
  """
  params, stats = {}, {}
  for name, stack in method.stacks.items():
    p, s = stacks.init(stack, config.seed)
    if config.model.pretrained and isinstance(stack.network, Network):
      p, s = _with_backbone(config, stack, p, s)
    params[name], stats[name] = p, s
  params, stats = method.start(params, stats)
  params, stats = ({k: _placed(method, k, v) for k, v in x.items()} for x in (params, stats))
  mesh = next(iter(method.stacks.values())).mesh
  everywhere = sharding.replicated(mesh)
  own = jax.device_put(method.extra_state(), everywhere)
  moved = trained(method, params)
  opt_state = jax.tree.map(
    lambda leaf: leaf if leaf.ndim else jax.device_put(leaf, everywhere), optimizer.init(moved)
  )
  step = jax.device_put(jnp.zeros((), jnp.int32), everywhere)
  return TrainState(step, params, {"batch_stats": stats, **own}, opt_state)


def _placed(method: Method, name: str, tree: Tree) -> Tree:
  stack = method.stacks[name]
  return jax.device_put(tree, sharding.stack_sharding(stack.mesh, stack.n))


def _with_backbone(config: ConfigDict, stack: Stack, params: Tree, stats: Tree) -> tuple:
  from semiseg_jax.models.pretrained import load_backbone

  loaded = load_backbone(config.model.pretrained, config.model.backbone)

  def put_in(drawn: Tree, encoder: Tree) -> Tree:
    _check_shapes(config.model.pretrained, encoder, drawn["encoder"])
    copies = jax.tree.map(lambda leaf: np.stack([leaf] * stack.n), encoder)
    return {**drawn, "encoder": copies}

  return put_in(params, loaded[0]), put_in(stats, loaded[1])


def _check_shapes(folder: str, loaded: Tree, stacked: Tree) -> None:
  there = {path: leaf.shape for path, leaf in flatten_dict(loaded, sep="/").items()}
  here = {path: leaf.shape[1:] for path, leaf in flatten_dict(stacked, sep="/").items()}
  for path in sorted(there.keys() | here.keys()):
    if there.get(path) != here.get(path):
      raise ConfigError(
        f"model.pretrained={folder!r} does not fit: {path} has the shape "
        f"{there.get(path, 'absent')} there and {here.get(path, 'absent')} in this network. Start "
        'from scratch with --config.model.pretrained="", or give pictures of as many channels as '
        "the weights were made for (3 in most cases)."
      )
