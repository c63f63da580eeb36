"""From a config to the objects of a run: networks, method, optimizer, first state."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from semiseg_jax import sharding, stacks
from semiseg_jax.data.augment import families
from semiseg_jax.errors import ConfigError
from semiseg_jax.members import Member
from semiseg_jax.methods import method as methods
from semiseg_jax.methods.method import Architecture, Method
from semiseg_jax.methods.optimizer import Optimizer
from semiseg_jax.models import family as model_family
from semiseg_jax.models.network import build_network
from semiseg_jax.stacks import Stack
from semiseg_jax.state import TrainState
from semiseg_jax.training import first_kernel, fixed_nets, optimizers, rate_factors
from semiseg_jax.training.train_step import trained
from semiseg_jax.wording import counted

Tree = Any


def architectures(config: ConfigDict, *, classes: int, channels: int) -> list[Architecture]:
  """Returns the segmentation networks of `config.model`: one kind, or a family of unlike ones.

  Raises:
    ConfigError: an unknown or impossible network, or a family of another number of copies than
      `method.networks`.
  """
  kinds = []
  for model, copies in model_family.members(config.model):
    network = build_network(model, num_classes=classes, in_channels=channels)
    scale, shift = _normalization(config.data, model)
    kinds.append(Architecture(network, copies, model, shift, scale, model.rate))
  if config.model.family:
    total = sum(kind.copies for kind in kinds)
    if total != config.method.networks:
      raise ConfigError(
        f"model.family has {counted(total, 'network')} and "
        f"method.networks={config.method.networks}: make "
        "them equal; copies=2 in a text of the family takes two of a kind."
      )
  return kinds


def _normalization(data: ConfigDict, model: ConfigDict) -> tuple[tuple[float, ...], ...]:
  """Scale and shift per channel from pictures normalized by `data` to those of a network."""
  if not model.mean and not model.std:
    return (), ()
  mean, std = (np.asarray(x, np.float64) for x in (data.mean, data.std))
  own_mean, own_std = (np.asarray(x or y) for x, y in ((model.mean, mean), (model.std, std)))
  if len(own_mean) != len(mean) or len(own_std) != len(std):
    raise ConfigError(
      f"model.mean={tuple(model.mean)}, model.std={tuple(model.std)}: {len(mean)} numbers each, "
      "as data.mean has, or ()."
    )
  return tuple((std / own_std).tolist()), tuple(((mean - own_mean) / own_std).tolist())


def make_method(config: ConfigDict, mesh: Mesh, *, classes: int, channels: int) -> Method:
  """Returns the method `config.method.name` on the networks of `config.model`.

  Raises:
    ConfigError: an unknown method, backbone or head, or one that cannot be built as asked.
  """
  family = architectures(config, classes=classes, channels=channels)
  opened = fixed_nets.opener(config, mesh, classes=classes, channels=channels)
  method = methods.assemble(config, mesh, family, fixed=opened)
  for stream in method.streams:
    families.make_augment(config, stream.view)
  evaluated(config, method)
  return method


def evaluated(config: ConfigDict, method: Method) -> tuple[str, ...]:
  """Returns the nets that are evaluated: those of `eval.stack`, or those of the method.

  Raises:
    ConfigError: a net that the method does not have, or that segments nothing.
  """
  if not config.eval.stack:
    return method.evaluated
  possible = [net.name for net in method.nets if method.kinds[net.name]]
  chosen = tuple(config.eval.stack.split("+"))
  if not set(chosen) <= set(possible) or len(set(chosen)) < len(chosen):
    raise ConfigError(
      f"eval.stack={config.eval.stack!r}: method.name={config.method.name!r} has "
      f"{', '.join(possible)}, or several joined with '+'."
    )
  return chosen


def evaluated_members(config: ConfigDict, method: Method) -> tuple[Member, ...]:
  """Returns how the evaluated networks are run, numbered through all nets of `eval.stack`."""
  members, first = [], 0
  for name in evaluated(config, method):
    for member in method.members[name]:
      members.append(dataclasses.replace(member, first=first))
      first += member.stack.n
  return tuple(members)


def describe_nets(method: Method, evaluated: tuple[str, ...]) -> dict[str, Any]:
  """Returns what a checkpoint says of its networks: enough to rebuild those that segment."""
  nets = {}
  for net in method.nets:
    if net.name not in method.kinds or net.role == "fixed":
      continue
    pairs = zip(method.members[net.name], method.kinds[net.name])
    nets[net.name] = [
      {
        "stack": member.stack.name,
        "copies": member.stack.n,
        "model": json.loads(kind.model.to_json_best_effort()),
        "shift": list(member.shift),
        "scale": list(member.scale),
      }
      for member, kind in pairs
    ]
  return {
    "nets": {name: members for name, members in nets.items() if members},
    "evaluated": list(evaluated),
    "stacks": {name: method.stacks[name].n for name in method.saved},
  }


def make_optimizer(config: ConfigDict, method: Method) -> optax.GradientTransformation:
  """Returns the optimizer of the trained stacks.

  That of `config.optimizer` over `config.train.steps`, but for the nets that have one of their own.
  """
  o, own = optimizers.Options(**config.optimizer), own_optimizers(method)
  networks = {name: method.stacks[name].network for name in method.trained if name not in own}
  return optimizers.build(
    o,
    config.train.steps,
    idle=frozenset(name for stack in method.stacks.values() for name in _idle(stack)),
    own=own,
    rates=rates(method),
    layers=rate_factors.layers_of(networks) if o.layer_decay != 1 else None,
  )


def own_optimizers(method: Method) -> dict[str, Optimizer]:
  """Returns stack -> its own optimizer, of the nets that have one."""
  return {
    member.stack.name: net.optimizer
    for net in method.nets
    if net.optimizer
    for member in method.members[net.name]
  }


def rates(method: Method) -> dict[str, float]:
  """Returns stack -> its learning rate relative to that of the run, where it is another one."""
  return {
    member.stack.name: kind.relative_rate
    for net in method.nets
    if net.role == "trained"
    for member, kind in zip(method.members[net.name], method.kinds[net.name])
    if kind.relative_rate != 1
  }


def _idle(stack: Stack) -> tuple[str, ...]:
  """The modules that the network of a stack holds and does not use."""
  return getattr(getattr(stack.network, "decoder", None), "idle", ())


def initial_state(
  config: ConfigDict,
  method: Method,
  optimizer: optax.GradientTransformation,
  *,
  pretrained: bool = True,
) -> TrainState:
  """Returns the state before the first step, placed on the devices.

  Parameters are drawn with numpy, every copy on its own.  A pretrained backbone then replaces the
  encoder of every copy (unless `pretrained` is False), so that the networks differ in their heads
  only.  Averages start as copies of what they follow.
  """
  params, stats = {}, {}
  for net in method.nets:
    if net.role == "fixed":
      continue
    kinds = method.kinds[net.name] or (None,)
    for member, kind in zip(method.members[net.name], kinds, strict=True):
      p, s = stacks.init(member.stack, config.seed)
      if pretrained and kind and kind.model.pretrained:
        p, s = _with_backbone(kind.model, member.stack, p, s)
      params[member.stack.name], stats[member.stack.name] = p, s
  params, stats = method.start(params, stats)
  params, stats = ({k: _placed(method, k, v) for k, v in x.items()} for x in (params, stats))
  mesh = next(iter(method.stacks.values())).mesh
  everywhere = sharding.replicated(mesh)
  memory = jax.device_put(method.first_memory(), everywhere)
  opt_state = _first_opt_state(method, optimizer, trained(method, params))
  step = jax.device_put(jnp.zeros((), jnp.int32), everywhere)
  return TrainState(step, params, stats, memory, opt_state, fixed_nets.read(method))


def _first_opt_state(method: Method, optimizer: optax.GradientTransformation, params: Tree) -> Tree:
  """One program makes it: what belongs to a parameter lies where its stack lies."""

  def place(path: tuple, leaf: Any) -> NamedSharding:
    of = [key.key for key in path if getattr(key, "key", None) in params]
    stack = method.stacks[of[0]] if of and leaf.ndim else None
    return sharding.stack_sharding(stack.mesh, stack.n) if stack else sharding.replicated(mesh)

  mesh = next(iter(method.stacks.values())).mesh
  shapes = jax.eval_shape(optimizer.init, params)
  places = jax.tree_util.tree_map_with_path(place, shapes)
  return jax.jit(optimizer.init, out_shardings=places)(params)


def _placed(method: Method, name: str, tree: Tree) -> Tree:
  stack = method.stacks[name]
  return jax.device_put(tree, sharding.stack_sharding(stack.mesh, stack.n))


def _with_backbone(model: ConfigDict, stack: Stack, params: Tree, stats: Tree) -> tuple:
  from semiseg_jax.models.pretrained import load_backbone

  loaded = load_backbone(model.pretrained, model.backbone)
  encoder, change = first_kernel.fitted(loaded[0], params["encoder"])
  if change:
    logging.warning("model.pretrained=%r: %s.", model.pretrained, change)

  def put_in(drawn: Tree, encoder: Tree) -> Tree:
    _check_shapes(model.pretrained, encoder, drawn["encoder"])
    copies = jax.tree.map(lambda leaf: np.stack([leaf] * stack.n), encoder)
    return {**drawn, "encoder": copies}

  return put_in(params, encoder), put_in(stats, loaded[1])


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
