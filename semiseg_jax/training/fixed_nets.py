"""Fixed nets: networks of another run that a method runs and never changes.

They are read from that run's last checkpoint at every start, lie in no checkpoint of this run, and
are known by the checksum of their numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference
from semiseg_jax.members import Member
from semiseg_jax.methods.contract import Net
from semiseg_jax.methods.method import Architecture, Method
from semiseg_jax.training import normalization
from semiseg_jax.wording import counted
from semiseg_jax.workdir.checkpoints import checksum

Tree = Any


def opener(
  config: ConfigDict, mesh: Mesh, *, classes: int, channels: int
) -> Callable[[Net], tuple[tuple[Architecture, ...], tuple[Member, ...]]]:
  """Returns what opens a fixed net: its architectures and how they are run."""

  def opened(net: Net) -> tuple[tuple[Architecture, ...], tuple[Member, ...]]:
    trained = inference.load_trained(net.source, "last", mesh)
    if trained.labels_pictures:
      raise ConfigError(
        f"{net.source} is a classifier of whole pictures; {net.name} of "
        f"method.name={config.method.name!r} labels pixels: take a run that segments."
      )
    if trained.n != net.copies:
      raise ConfigError(
        f"{net.source} has {counted(trained.n, 'network')}, {net.name} of "
        f"method.name={config.method.name!r} takes {net.copies}."
      )
    there = len(trained.dataset["classes"]), trained.dataset["channels"]
    if there != (classes, channels):
      raise ConfigError(
        f"{net.source} was trained with {there[0]} classes and {there[1]} channels, this run's "
        f"data set has {classes} and {channels}: take a teacher of the same classes."
      )
    members = tuple(
      _renamed(normalization.seen_by(member, config.data, trained.config.data), net.name, i)
      for i, member in enumerate(trained.members)
    )
    kinds = tuple(
      Architecture(m.stack.network, m.stack.n, ConfigDict(about["model"]), m.shift, m.scale)
      for m, about in zip(members, trained.described)
    )
    return kinds, members

  return opened


def _renamed(member: Member, net: str, i: int) -> Member:
  name = f"{net}_{i}" if i else net
  return dataclasses.replace(member, stack=dataclasses.replace(member.stack, name=name))


def read(method: Method) -> dict[str, tuple[Tree, Tree]]:
  """Returns stack -> (parameters, batch statistics) of all fixed nets of a method, on its mesh."""
  variables = {}
  for net in method.nets:
    if net.role != "fixed":
      continue
    members = method.members[net.name]
    trained = inference.load_trained(net.source, "last", members[0].stack.mesh)
    for here, there in zip(members, trained.members, strict=True):
      trees = trained.params[there.stack.name], trained.batch_stats[there.stack.name]
      variables[here.stack.name] = _cast(trees, net.dtype)
  return variables


def _cast(tree: Tree, dtype: str) -> Tree:
  if not dtype:
    return tree
  cast = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
  return jax.tree.map(cast, tree)


def describe(method: Method, fixed: dict[str, tuple[Tree, Tree]]) -> dict[str, dict[str, Any]]:
  """Returns what a checkpoint says of the fixed nets: stack -> source and checksum."""
  sources = {m.stack.name: n.source for n in method.nets for m in method.members[n.name]}
  return {
    name: {"source": sources[name], "checksum": checksum(tree)} for name, tree in fixed.items()
  }
