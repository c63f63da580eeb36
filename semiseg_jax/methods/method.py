"""A method put together from its module, its networks and a mesh: what the train step runs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from semiseg_jax.members import Member
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.methods.step import Step
from semiseg_jax.models.parts import Parts
from semiseg_jax.ops.consistency import ema
from semiseg_jax.stacks import Stack

Tree = Any


@dataclasses.dataclass(frozen=True)
class Architecture:
  """Networks of one kind in the family that `config.model` describes.

  Attributes:
    network: how to run one.
    copies: how many of a net are of this kind; 0: all.
    model: the block `config.model` that describes it.
    shift, scale: see `Member`.
    relative_rate: its learning rate relative to that of the run.
  """

  network: Parts
  copies: int = 0
  model: Any = None
  shift: tuple[float, ...] = ()
  scale: tuple[float, ...] = ()
  relative_rate: float = 1.0


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a loss leaves beside its value.

  stats, memory: the new ones.  metrics: (sum, count) by name.  shown: by title.
  """

  stats: Tree
  memory: Tree
  metrics: dict[str, tuple[Any, Any]]
  shown: dict[str, jax.Array]


jax.tree_util.register_dataclass(Outcome)


@dataclasses.dataclass(frozen=True)
class Method:
  """A method as it is run.

  Attributes:
    config: of the run.
    modules: name -> module; the method first, then the terms that are added to it.
    streams: what it reads; a batch is {stream: {'image', 'label', 'valid', 'index', 'row', ...}},
      'row' being the numbers of the pictures in the global batch.
    nets: its networks.
    members: net -> how its copies are run.
    kinds: net -> the architectures of its members; none of critics.
    evaluated: the nets whose copies are evaluated, together.
    class_weights: of the supervised loss, one per class; () = equal ones.
  """

  config: Any
  modules: Mapping[str, ModuleType]
  streams: tuple[Stream, ...]
  nets: tuple[Net, ...]
  members: Mapping[str, tuple[Member, ...]]
  kinds: Mapping[str, tuple[Architecture, ...]]
  evaluated: tuple[str, ...]
  class_weights: tuple[float, ...] = ()

  @property
  def module(self) -> ModuleType:
    """The method itself, without terms."""
    return next(iter(self.modules.values()))

  @property
  def stacks(self) -> dict[str, Stack]:
    """Every stack by its name."""
    return {m.stack.name: m.stack for members in self.members.values() for m in members}

  def stacks_of(self, *roles: str) -> tuple[str, ...]:
    """Returns the names of the stacks of nets of these roles."""
    nets = [net.name for net in self.nets if net.role in roles]
    return tuple(member.stack.name for name in nets for member in self.members[name])

  @property
  def trained(self) -> tuple[str, ...]:
    """The stacks that optimizers move."""
    return self.stacks_of("trained", "critic")

  @property
  def saved(self) -> tuple[str, ...]:
    """The stacks of a checkpoint: all but fixed ones."""
    return self.stacks_of("trained", "critic", "average")

  def phase(self, t: int) -> frozenset[str]:
    """Returns what takes part at step t: each set is a compiled program of its own.

    Names of a term begin with its own: 'pixel_contrast.contrast'.
    """
    taking_part, first = set(), next(iter(self.modules))
    for part, module in self.modules.items():
      names = getattr(module, "phase", lambda c, t: ())(self.config, t)
      taking_part.update(names if part == first else (f"{part}.{name}" for name in names))
    return frozenset(taking_part)

  def loss(
    self,
    params: Tree,
    stats: Tree,
    memory: Tree,
    batch: Tree,
    key: jax.Array,
    t: jax.Array,
    phase: frozenset[str],
  ) -> tuple[jax.Array, Outcome]:
    """Returns the loss, terms included, and what else the step leaves."""
    (name, module), *added = self.modules.items()
    s = Step(
      self.config,
      members=self.members,
      params=params,
      stats=stats,
      memory=memory,
      batch=batch,
      sources={stream.name: stream.source for stream in self.streams},
      key=key,
      t=t,
      phase=phase,
      part=(name, module),
      class_weights=self.class_weights,
    )
    total = module.loss(self.config, s)
    for name, module in added:
      with s.belonging_to(name, module):
        total += module.term(self.config, s)
    return total, Outcome(s.stats, s.memories, s.metrics, s.shown)

  def start(self, params: Tree, stats: Tree) -> tuple[Tree, Tree]:
    """Makes averages copies of what they follow: of other buffers, as the state is donated.

    Parts that are `Net.drawn` stay as they are.
    """
    for to, of, net in self._averages():

      def started(tree: Tree, to: str = to, of: str = of, net: Net = net) -> Tree:
        copied = jax.tree.map(lambda x: x.copy(), tree[of])
        return {**copied, **{part: tree[to][part] for part in net.drawn}}

      params, stats = ({**tree, to: started(tree)} for tree in (params, stats))
    return params, stats

  def after_update(self, params: Tree, stats: Tree, memory: Tree, t: Any) -> tuple[Tree, ...]:
    """Moves the averages, then calls `after` of the method and its terms where it is due."""
    for to, of, net in self._averages():
      a = net.decay(t)
      params = {**params, to: ema(params[to], params[of], a)}
      if net.averaged_stats:
        stats = {**stats, to: ema(stats[to], stats[of], a)}
    for name, module in self.modules.items():
      if hasattr(module, "after") and name in memory:
        memory = {**memory, name: self._after(module, t, params, stats, memory[name])}
    return params, stats, memory

  def _after(self, module: ModuleType, t: Any, params: Tree, stats: Tree, memory: Tree) -> Tree:
    every = getattr(module, "every", lambda c: 1)(self.config)
    run = lambda memory: module.after(self.config, t, params, stats, memory)
    if every == 1:
      return run(memory)
    return jax.lax.cond((jnp.asarray(t) + 1) % every == 0, run, lambda memory: memory, memory)

  def _averages(self) -> list[tuple[str, str, Net]]:
    """(stack of the average, stack that it follows, net), in order."""
    averages = []
    for net in self.nets:
      if net.role == "average":
        pairs = zip(self.members[net.name], self.members[net.of], strict=True)
        averages += [(to.stack.name, of.stack.name, net) for to, of in pairs]
    return averages

  def first_memory(self) -> Tree:
    """Returns the memory at step 0, numpy, {part of the method: tree}."""
    memories = {
      name: module.memory(self.config, self.members)
      for name, module in self.modules.items()
      if hasattr(module, "memory")
    }
    return {name: tree for name, tree in memories.items() if tree is not None}


def assemble(
  config: Any,
  mesh: Mesh,
  family: Sequence[Architecture],
  *,
  modules: Mapping[str, ModuleType] | None = None,
  fixed: Callable[[Net], tuple[tuple[Architecture, ...], tuple[Member, ...]]] | None = None,
) -> Method:
  """Returns the method of a config on the networks of its family.

  Args:
    config: of the run.
    mesh: to run on.
    family: the architectures of segmentation networks.
    modules: the method and its terms; None: those that the config names.
    fixed: opens a fixed net: its architectures and how they are run.

  Raises:
    ConfigError: an unknown method or term.
  """
  modules = modules or contract.parts(config)
  module = next(iter(modules.values()))
  nets = tuple(module.nets(config))
  contract.check_nets(nets)
  members, kinds = {}, {}
  for net in nets:
    if net.role == "fixed":
      kinds[net.name], members[net.name] = fixed(net)
    elif net.role == "critic":
      critic = Architecture(net.network(family[0].network))
      kinds[net.name], members[net.name] = (), members_of(config, mesh, net, [critic])
    else:
      kinds[net.name] = tuple(family)
      members[net.name] = members_of(config, mesh, net, family)
  evaluated = tuple(getattr(module, "EVALUATED", (contract.SEGMENTATION,)))
  return Method(config, modules, tuple(module.streams(config)), nets, members, kinds, evaluated)


def members_of(
  config: Any, mesh: Mesh, net: Net, family: Sequence[Architecture]
) -> tuple[Member, ...]:
  """Returns how the copies of a net are run; the stack of kind i > 0 is called NET_i."""
  members, first = [], 0
  for i, kind in enumerate(family):
    n = kind.copies or net.copies
    name = f"{net.name}_{i}" if i else net.name
    frozen = config.train.frozen_statistics and net.role != "critic"
    stack = Stack(name, n, kind.network, mesh, config.train.bn_group, first, frozen)
    members.append(Member(stack, first, kind.shift, kind.scale))
    first += n
  return tuple(members)
