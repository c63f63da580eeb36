"""What a method is: a module that states its streams and networks and computes a loss.

`methods/<name>.py` holds one method and is found by its name:

    Options                  dataclass of its keys; its bases (methods/shared.py) are shared keys,
                             its own fields are the block `method.<name>`
    streams(c) -> [Stream]   the pictures that it reads
    nets(c) -> [Net]         the networks that it runs
    loss(c, s) -> scalar     its mathematics; `s` is a `Step` (methods/step.py), `c` the config

and, where the paper has it,

    COMPAT                   published quirks by name: `method.compat` may ask for them
    RAMP                     the shape of the rise of lambda
    CLASSIFIES               whether its networks label whole pictures: model.head='classifier'
    EVALUATED                names of the networks that are evaluated, ('networks',) without it
    phase(c, t) -> frozenset names of what takes part at step t; each set is a program of its own
    memory(c, nets) -> tree  numpy arrays that the loss reads and replaces as `s.memory`
    after(c, t, params, stats, memory) -> memory   every `every(c)` updates; trees by stack
    stages(c) -> [Stage]     runs that come one after the other
    term(c, s) -> scalar     what `method.add` puts on top of another method's loss
    NOT_IN_TERM              keys of its own that `term` does not read
    AUXILIARY                its key that weighs auxiliary logits of a head; '': it reads none
    TEACHES                  True: `loss` says with `s.teaches` what the networks learn from, in the
                             last phase at least; False without it
    LOGS                     names of its metrics that a term may have too: the term's are TERM/name
                             at every step, also while the method does not log them
    rules(c) -> texts        what is wrong with its keys together
    rules_of_classes(c, classes) -> texts   what is wrong with them for so many classes
    divisible(c) -> bool     whether parts of a batch may be run one after the other
    whole_rules(c) -> texts  what is wrong with its keys together in a config that is no stage's
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from semiseg_jax import methods
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods.optimizer import Optimizer
from semiseg_jax.models.parts import Parts
from semiseg_jax.options import defaults, keys, own_keys

Tree = Any
ROLES = ("trained", "average", "critic", "fixed")
SEGMENTATION = "networks"  # the segmentation networks that train


@dataclasses.dataclass(frozen=True)
class Stream:
  """One stream of pictures.

  Attributes:
    name: its key in the batch.
    source: whose pictures: 'labeled', 'unlabeled', or a source of `data.sources`.
    batch: rows per step, over all processes.
    order: names its shuffling, by default its own name: streams of one order read the same
      pictures.
    view: what is made of a picture on the host. 'single': a crop. 'pair': two overlapping crops,
      the second as a stream of its own, NAME_2, with the geometry of both. 'filled': a crop without
      padding. 'unscaled': a crop that was not scaled. 'whole': the picture, resized to the crop.
    strong: how many strong views are made of it on the device.
    targets: whether its pictures carry the stored targets of `data.targets`.
  """

  name: str
  source: str
  batch: int
  order: str = ""
  view: str = "single"
  strong: int = 0
  targets: bool = False

  def __post_init__(self) -> None:
    if not self.order:
      object.__setattr__(self, "order", self.name)


@dataclasses.dataclass(frozen=True)
class Net:
  """A network that a method runs by its name.

  Attributes:
    name: of the network.
    copies: n, of each of its parameters.
    role: 'trained'; 'average' (of the net `of`: starts as its copy and follows it after every
      update); 'critic' (trained as well, with an optimizer of its own); 'fixed' (read from the run
      `source`, in no checkpoint).
    of: the net that an average follows.
    decay: of an average: step -> a, theta' <- a theta' + (1 - a) theta.
    averaged_stats: whether the running statistics of an average are averages too.
    drawn: parts of an average that start with values of their own, such as 'decoder'.
    network: of a critic: segmentation network -> its network. None: what `config.model` says.
    optimizer: its own one; None: that of `config.optimizer`.
    source: of a fixed net: the work directory that it is read from.
    dtype: of a fixed net's parameters, '' as they were saved.
  """

  name: str
  copies: int
  role: str = "trained"
  of: str = ""
  decay: Callable[[Any], Any] | None = None
  averaged_stats: bool = False
  drawn: tuple[str, ...] = ()
  network: Callable[[Any], Parts] | None = None
  optimizer: Optimizer | None = None
  source: str = ""
  dtype: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
  """A run that is a part of a method: trained in WORKDIR/name, then its artifacts are written.

  Attributes:
    name: of the folder.
    changes: dotted keys of the config -> values of this stage.
    then: (config of the stage, its work directory, the root work directory) -> None; writes whole
      artifacts or nothing, and does nothing where they are there.
    follows: whether its number of steps is that of the run; a complete stage before the last keeps
      it when that of the run is raised.
  """

  name: str
  changes: dict[str, Any]
  then: Callable[[Any, str, str], None] | None = None
  follows: bool = False


def labeled(c: Any, name: str = "labeled", **options: Any) -> Stream:
  """Returns a stream of labeled pictures with the batch of the config."""
  return Stream(name, "labeled", c.train.batch_labeled, **options)


def unlabeled(c: Any, name: str = "unlabeled", **options: Any) -> Stream:
  """Returns a stream of unlabeled pictures with the batch of the config."""
  return Stream(name, "unlabeled", c.train.batch_unlabeled, **options)


def cutmix_streams(c: Any) -> list[Stream]:
  """Returns 'labeled' and 'unlabeled', and the partners 'unlabeled_mix' where CutMix is on."""
  streams = [labeled(c), unlabeled(c)]
  if c.method.cutmix:
    same = c.method.cutmix_partner == "same_image"
    streams.append(unlabeled(c, "unlabeled_mix", order="unlabeled" if same else ""))
  return streams


def uneven_groups(c: Any, group: int = 0, name: str = "method.loss_group") -> list[str]:
  """Returns a line where labeled and unlabeled pictures fall into unlike numbers of groups.

  Args:
    c: the config.
    group: pictures of a group; 0: `loss_group`.
    name: the key that says so.
  """
  k, t = group or c.method.loss_group, c.train
  labeled, unlabeled = t.batch_labeled // t.accumulate, t.batch_unlabeled // t.accumulate
  if not k or labeled % k or not unlabeled % (labeled // k):
    return []
  return [
    f"{name}={k}: the {t.batch_unlabeled} unlabeled pictures of a batch fall into as "
    f"many groups as the {t.batch_labeled} labeled ones: {labeled // k} (in each part of it, where "
    "train.accumulate cuts it)."
  ]


def modules() -> dict[str, ModuleType]:
  """Returns every method there is: name -> module.  A folder is looked through once."""
  return dict(_modules(tuple(methods.__path__)))


@functools.cache
def _modules(folders: tuple[str, ...]) -> dict[str, ModuleType]:
  names = sorted(m.name for m in pkgutil.iter_modules(folders))
  imported = {name: importlib.import_module(f"{methods.__name__}.{name}") for name in names}
  return {name: module for name, module in imported.items() if hasattr(module, "loss")}


def find(name: str) -> ModuleType:
  """Returns the module of the method `name`.

  Raises:
    ConfigError: no such method; the message lists those there are.
  """
  have = modules()
  if name not in have:
    raise ConfigError(f"method.name={name!r} is unknown; there are: {', '.join(have)}.")
  return have[name]


def terms(c: Any) -> dict[str, ModuleType]:
  """Returns the modules of `method.add`, in order.

  Raises:
    ConfigError: a method that has no term; the message lists those that have.
  """
  possible = {name: module for name, module in modules().items() if hasattr(module, "term")}
  if len({c.method.name, *c.method.add}) <= len(c.method.add):
    raise ConfigError(
      f"method.add={tuple(c.method.add)}: a term is added once, and not to the method of its name."
    )
  for name in c.method.add:
    if name not in possible:
      raise ConfigError(
        f"method.add={tuple(c.method.add)}: {name!r} is no term; there are: {', '.join(possible)}."
      )
  return {name: possible[name] for name in c.method.add}


def parts(c: Any) -> dict[str, ModuleType]:
  """Returns the chosen method and its terms: name -> module."""
  return {c.method.name: find(c.method.name), **terms(c)}


def paths(name: str, module: ModuleType) -> dict[str, str]:
  """Returns key -> its path in a config ('method.weight', 'method.NAME.decay') of a method."""
  own = own_keys(module.Options)
  return {k: f"method.{name}.{k}" if k in own else f"method.{k}" for k in keys(module.Options)}


def reads(c: Any) -> set[str]:
  """Returns the paths of the keys in the block `method` that a run reads."""
  read = {"method.name", "method.add"}
  for name, module in parts(c).items():
    unread = () if name == c.method.name else getattr(module, "NOT_IN_TERM", ())
    read.update(path for k, path in paths(name, module).items() if k not in unread)
  return read | ({"method.compat"} if quirks(c) else set())


def quirks(c: Any) -> tuple[str, ...]:
  """Returns what `method.compat` may hold."""
  return tuple(quirk for module in parts(c).values() for quirk in getattr(module, "COMPAT", ()))


def faults(c: Any) -> list[str]:
  """Returns a line for each rule of the method and its terms that the config breaks."""
  told = (getattr(module, "rules", lambda c: [])(c) for module in parts(c).values())
  return [line for lines in told for line in lines]


def divisible(c: Any) -> bool:
  """Whether a step is the mean of steps on parts of its batch, for the method and its terms."""
  return all(
    module.divisible(c) if hasattr(module, "divisible") else not hasattr(module, "memory")
    for module in parts(c).values()
  )


def teaches(name: str) -> bool:
  """Whether the loss of a method says which pseudo labels its networks learn from."""
  return getattr(find(name), "TEACHES", False)


def whole_faults(c: Any) -> list[str]:
  """Returns a line for each rule of whole runs, which stages need not keep, that it breaks."""
  told = (getattr(module, "whole_rules", lambda c: [])(c) for module in parts(c).values())
  return [line for lines in told for line in lines]


def sources(c: Any) -> set[str]:
  """Returns the names of the sources whose pictures the method reads, in all of its stages."""
  return {stream.source for stream in find(c.method.name).streams(c)}


def views(c: Any) -> set[str]:
  """Returns what is made of pictures on the host, over all streams."""
  return {stream.view for stream in find(c.method.name).streams(c)}


def strong_views(c: Any) -> bool:
  """Whether the method makes strong views of pictures."""
  return any(stream.strong for stream in find(c.method.name).streams(c))


def stored_targets(c: Any) -> bool:
  """Whether the method learns from the stored targets of `data.targets`."""
  return any(stream.targets for stream in find(c.method.name).streams(c))


def faults_of_classes(c: Any, classes: int) -> list[str]:
  """Returns a line for each key of the method and its terms that does not fit so many classes."""
  rules = [m.rules_of_classes for m in parts(c).values() if hasattr(m, "rules_of_classes")]
  return [line for rule in rules for line in rule(c, classes)]


def options() -> dict[str, dict[str, Any]]:
  """Returns name -> the defaults of its own keys, of the methods that have such."""
  own = {name: own_keys(module.Options) for name, module in modules().items()}
  every = {name: defaults(module.Options) for name, module in modules().items()}
  return {name: {key: every[name][key] for key in some} for name, some in own.items() if some}


def stages(c: Any) -> list[Stage]:
  """Returns the runs that the method consists of; none: it is one run."""
  return list(getattr(find(c.method.name), "stages", lambda c: [])(c))


def check_nets(nets: Iterable[Net]) -> None:
  """Raises ValueError where the networks of a method contradict each other."""
  roles = {net.name: net.role for net in nets}
  for net in nets:
    wrong = [
      (net.role not in ROLES, f"role {net.role!r}: one of {', '.join(ROLES)}"),
      (
        net.role == "average" and roles.get(net.of) != "trained",
        "an average is `of` a trained net",
      ),
      (net.role == "average" and net.decay is None, "an average has a decay"),
      (net.role == "critic" and net.network is None, "a critic has a network"),
      (net.role == "fixed" and not net.source, "a fixed net has a source"),
      (net.copies < 1, "at least one copy"),
    ]
    for bad, text in wrong:
      if bad:
        raise ValueError(f"net {net.name!r}: {text}.")
