"""What a run reads of its config: the keys that nobody reads, and the choice that is why."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.config import domain, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models import family, network

_UNLABELED = ("data.unlabeled", "data.unlabeled_root", "data.unlabeled_photometry")
_NOT_CUT = ("scales", "base_size", "compat", "rare_crop", "rare_classes")
_OF_PIXELS = (
  *("mode", "whole", "window", "stride", "border", "multiple", "summed", "scales", "flip"),
  *("batch", "pictures"),
)
_TFDS = tuple(f"data.tfds_{name}" for name in ("image", "label", "id", "classes", "ignored"))
Unread = Iterator[tuple[str, str]]


def unread(config: ConfigDict) -> dict[str, str]:
  """Returns the keys that a run of this config does not read -> the choice that is why."""
  entries = schema.table()
  values = schema.flat(config.to_dict())
  wrong = (p for p, e in entries.items() if p not in values or domain.fault(e, values[p]))
  return ignored_keys(Sound(config, frozenset(wrong)), entries)


def only_read(config: ConfigDict) -> ConfigDict:
  """Returns the config with every key that its run does not read at the default.

  A stage of a method reads other keys than the whole.
  """
  entries, kept = schema.table(), ConfigDict(config.to_dict())
  neutral = {path: entries[path].default for path in unread(config)}
  kept.update_from_flattened_dict(neutral)
  return kept


class _UnsoundError(Exception):
  """A rule asked for a value that is at fault by itself."""


class Sound:
  """A config that raises where a value is at fault: rules speak of sound ones only."""

  def __init__(self, block: ConfigDict, wrong: frozenset[str], prefix: str = ""):
    self._block, self._wrong, self._prefix = block, wrong, prefix

  def __getattr__(self, name: str) -> Any:
    path = self._prefix + name
    if path in self._wrong or name not in self._block:
      raise _UnsoundError(path)
    value = self._block[name]
    if isinstance(value, ConfigDict):
      return Sound(value, self._wrong, f"{path}.")
    return schema.plain(value)

  @property
  def block(self) -> ConfigDict:
    """The block itself, sound or not."""
    return self._block

  def keys(self) -> Iterable[str]:
    """Names of its keys and blocks."""
    return self._block.keys()

  def __getitem__(self, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), self)


def ask(rule: Callable[[Any], Iterable[Any]], config: Sound) -> list[Any]:
  """Returns what a rule says before it comes to a value that is at fault by itself."""
  said = []
  try:
    for line in rule(config):
      said.append(line)
  except _UnsoundError:
    pass
  except ConfigError as error:
    said.append(error)
  return said


def ignored_keys(c: Sound, entries: dict[str, schema.Entry]) -> dict[str, str]:
  """Returns the keys of the table that a run does not read -> the choice that is why."""
  found: dict[str, str] = {}
  conditions = [functools.partial(_unmet, e, entries) for e in entries.values() if e.key.when]
  for reader in (*_READERS, *conditions):
    for path, choice in (x for x in ask(reader, c) if isinstance(x, tuple)):
      for key in entries if path.endswith(".") else (path,):
        if key.startswith(path) and key in entries:
          found.setdefault(key, choice)
  return found


def _by_method(c: Any) -> Unread:
  reads, chosen = contract.reads(c), named(c)
  for path in schema.table():
    if path.startswith("method.") and path not in reads:
      yield path, chosen


def named(c: Any) -> str:
  """Returns the method of a config and its terms as messages name them."""
  added = f" with method.add={c.method.add}" if c.method.add else ""
  return f"method.name={c.method.name!r}{added}"


def _by_network(c: Any) -> Unread:
  models = architectures(c)
  read = set().union(*(network.blocks_read(model) for model in models))
  chosen = f"model.backbone={c.model.backbone!r} with model.head={c.model.head!r}"
  if c.model.family:
    chosen = f"model.family={c.model.family}"
  for block in network.option_blocks():
    if block not in read:
      yield f"model.{block}.", chosen
  yield from ((path, named(c)) for path in outputs_unread(c))


def outputs_unread(c: Any) -> list[str]:
  """Returns keys of outputs of the network that neither the method nor a term reads.

  Embeddings are none of them: runs of before have projection heads that nobody reads.
  """
  return [] if _auxiliary_weights(c) else ["model.deeplabv3plus.auxiliary"]


def _auxiliary_weights(c: Any) -> list[str]:
  """Keys of the method and its terms that weigh auxiliary logits."""
  weights = {name: getattr(m, "AUXILIARY", "") for name, m in contract.parts(c).items()}
  return [f"method.{name}.{key}" for name, key in weights.items() if key]


def _by_auxiliary(c: Any) -> Unread:
  switch = f"model.{c.model.head}.auxiliary"
  if switch in schema.table():
    gives, chosen = c[switch], f"{switch}=False"
  else:
    gives = getattr(network.HEADS[c.model.head], "auxiliary", False)
    chosen = f"model.head={c.model.head!r}"
  if not gives and not c.model.family:
    yield from ((path, chosen) for path in _auxiliary_weights(c))


def architectures(c: Any) -> list[ConfigDict]:
  """Returns the block of every architecture, that of the config alone if its family is at fault."""
  try:
    return [model for model, _ in family.members(c.model.block)]
  except ConfigError:
    return [c.model.block]


def _by_sources(c: Any) -> Unread:
  sources = contract.sources(c)
  if "unlabeled" not in sources:
    yield from ((path, named(c)) for path in _UNLABELED)
  if not sources - {"labeled", "unlabeled"}:
    yield "data.sources", named(c)
  if not contract.stored_targets(c):
    yield "data.targets", named(c)


def _by_views(c: Any) -> Unread:
  if contract.strong_views(c):
    return
  jitters = "jitter" in (c.data.labeled_photometry, c.data.unlabeled_photometry)
  for path in schema.table():
    if path.startswith("data.strong.") and not (jitters and path == "data.strong.jitter"):
      yield path, named(c)


def _by_whole_pictures(c: Any) -> Unread:
  """Pictures that are neither scaled nor cut, and networks that cut none into windows."""
  if contract.views(c) == {"whole"}:
    yield from ((f"data.{name}", named(c)) for name in _NOT_CUT)
  if getattr(contract.find(c.method.name), "CLASSIFIES", False):
    for name in _OF_PIXELS:
      yield f"eval.{name}", named(c)


def _by_root(c: Any) -> Unread:
  if not any(root.startswith("tfds:") for root in (c.data.root, c.data.unlabeled_root)):
    yield from ((path, "a data.root that is no tfds build") for path in _TFDS)


_READERS = (
  *(_by_method, _by_network, _by_auxiliary, _by_sources, _by_views, _by_whole_pictures, _by_root),
)


def _unmet(entry: schema.Entry, entries: dict[str, schema.Entry], c: Any) -> Unread:
  """A key under the condition of another one, of its block or of the block around that."""
  for other, values in entry.key.when.items():
    around = (entry.block, entry.block.rpartition(".")[0])
    path = next(p for p in (f"{block}.{other}" for block in around) if p in entries)
    if c[path] not in values:
      yield entry.path, f"{path}={c[path]!r}"
