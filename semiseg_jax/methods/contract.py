"""What a method is: streams in, a loss, stacks of networks, state.

`methods/<name>.py` holds one method and gives `build(config, make_stack) -> Method`; `find` imports
it by its name.  `Options` is a dataclass of the keys that it reads: those of methods/shared.py,
which it inherits, lie in the block `method`, its own in `method.<name>`; a change of any other one
is refused.  `READS` says whether it reads 'unlabeled' pictures and makes 'strong' views, `COMPAT`
names the quirks it can be asked for, and `rules(config)` returns a line for each fault that only
the method can know of.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import optax

from semiseg_jax import methods
from semiseg_jax.options import keys, own_keys
from semiseg_jax.stacks import Stack

Tree = Any
Metrics = dict[str, tuple[Any, Any]]
# (name, n) -> a stack of n segmentation networks, as the config describes them;
# (name, n, network) -> one of another network
MakeStack = Callable[..., Stack]


@dataclasses.dataclass(frozen=True)
class Stream:
  """One stream of pictures.

  name: its key in the batch.
  source: 'labeled' or 'unlabeled'.
  batch: rows per step, over all processes.
  order: names its shuffling: two streams of one order read the same pictures.
  view: what is made of a picture on the host. 'single': a crop. 'pair': two overlapping crops, with
    'image_2', 'label_2', 'valid_2' and 'geometry' [rows,6] beside (data/augment/pairs.py).
    'filled': a crop without padding. Further views of a crop are made on the device
    (ops/photometry.py), so that it crosses over once.
  """

  name: str
  source: str
  batch: int
  order: str
  view: str = "single"


@dataclasses.dataclass(frozen=True)
class Method:
  """A semi-supervised method.

  streams: what it reads; the batch it gets is {stream name: {'image', 'label', 'valid', 'index',
    'row'}}, 'row' being the numbers of the pictures in the global batch.
  stacks: every stack it runs; the segmentation networks that it trains are 'networks'.
  trained: the stacks that the optimizer moves.
  evaluated: the stack that evaluation and prediction use (`eval.stack` may name another).
  loss: (params, state, batch, key, step, phase) -> (scalar, (state, aux, metrics as (sum, count))).
    `state` holds 'batch_stats' per stack and the method's own state; the new one is returned.
  phase: step -> int, static: each value is a compiled program of its own.
  after_update: (params, state, aux, step) -> (params, state), for averages and queues.
  extra_state: () -> the method's own part of `state` at step 0, numpy.
  start: the drawn (or loaded) (params, batch_stats), dicts of stacks, -> those of step 0; a teacher
    is made a copy of its student here.
  optimizers: stack -> its own optimizer; the others get the one of `config.optimizer`.
  divisible: whether a step is the mean of steps on parts of the batch, so that gradients can be
    accumulated; False where the loss or `after_update` needs the whole batch at once.
  show: (params, state, batch, key) -> {title: normalised pictures [B,H,W,C], class ids [B,H,W] or
    bool masks [B,H,W]}, what a person wants to see of the first batch beside its streams.
  """

  streams: tuple[Stream, ...]
  stacks: dict[str, Stack]
  trained: tuple[str, ...]
  evaluated: str
  loss: Callable[..., tuple[Any, tuple[Tree, Tree, Metrics]]]
  phase: Callable[[int], int] = lambda step: 0
  after_update: Callable[[Tree, Tree, Tree, Any], tuple[Tree, Tree]] | None = None
  extra_state: Callable[[], dict[str, Tree]] = dict
  start: Callable[[Tree, Tree], tuple[Tree, Tree]] = lambda params, stats: (params, stats)
  optimizers: Mapping[str, optax.GradientTransformation] = dataclasses.field(default_factory=dict)
  divisible: bool = True
  show: Callable[[Tree, Tree, Tree, Any], dict[str, Any]] = lambda *unused: {}


def modules() -> dict[str, ModuleType]:
  """Returns every method there is: name -> module."""
  names = sorted(m.name for m in pkgutil.iter_modules(methods.__path__))
  found = {name: importlib.import_module(f"{methods.__name__}.{name}") for name in names}
  return {name: module for name, module in found.items() if hasattr(module, "build")}


def find(name: str) -> ModuleType:
  """Returns the module of the method `name`.

  Raises:
    ValueError: no such method; the message lists those there are.
  """
  have = modules()
  if name not in have:
    raise ValueError(f"method.name={name!r} is unknown; there are: {', '.join(have)}.")
  return have[name]


def chosen(config: Any) -> dict[str, ModuleType]:
  """Returns name -> module of the method of a run and of the terms that are added to it.

  Raises:
    ValueError: no such method.
  """
  return {name: find(name) for name in dict.fromkeys((config.method.name, *config.method.add))}


def paths(name: str, module: ModuleType) -> dict[str, str]:
  """Returns key -> its path in a config ('method.weight', 'method.NAME.decay') of a method."""
  own = own_keys(module.Options)
  return {k: f"method.{name}.{k}" if k in own else f"method.{k}" for k in keys(module.Options)}


def reads(config: Any) -> set[str]:
  """Returns the paths of the keys in the block `method` that a run reads."""
  found = {"method.name", "method.add", "method.networks"}
  for name, module in chosen(config).items():
    found.update(paths(name, module).values())
  return found | ({"method.compat"} if quirks(config) else set())


def quirks(config: Any) -> tuple[str, ...]:
  """Returns the quirks that `method.compat` may name."""
  return tuple(q for module in chosen(config).values() for q in getattr(module, "COMPAT", ()))


def faults(config: Any) -> list[str]:
  """Returns what the methods themselves find wrong with a config, a line each."""
  none = lambda config: []
  return [line for m in chosen(config).values() for line in getattr(m, "rules", none)(config)]


def sources(config: Any) -> set[str]:
  """Returns the sources of pictures that a run reads: 'labeled', 'unlabeled'."""
  more = {"unlabeled"} if any("unlabeled" in m.READS for m in chosen(config).values()) else set()
  return {"labeled"} | more


def strong_views(config: Any) -> bool:
  """Returns whether a run makes strong views of its pictures."""
  return any("strong" in m.READS for m in chosen(config).values())
