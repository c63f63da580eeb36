"""What a method is: streams in, a loss, stacks of networks, state.

`methods/<name>.py` holds one method and gives `build(config, make_stack) -> Method`; `find` imports
it by its name.  `READS` names what it reads of the keys that methods share (validate.SHARED): a
change of any other one is refused.  Where it has keys of its own, `Options` is a dataclass of them
with their defaults, and the config block `method.<name>` has the same; `COMPAT` names the quirks
it can be asked for.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import optax

from semiseg_jax import methods
from semiseg_jax.options import own_keys
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


def options() -> dict[str, dict[str, Any]]:
  """Returns name -> the defaults of its own keys, of the methods that have such."""
  own = {name: own_keys(module.Options) for name, module in modules().items()}
  return {name: {k: f.default for k, (f, _) in keys.items()} for name, keys in own.items() if keys}
