"""The one table of keys: every room's dataclasses of keys joined to a config.

Nothing here starts a jax backend: a config is loaded before XLA's flags are set.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.data import options as data
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import options as evaluation
from semiseg_jax.methods import contract, shared
from semiseg_jax.models import network
from semiseg_jax.ops import photometry
from semiseg_jax.options import Flat, Key, flat, keys, own_keys
from semiseg_jax.training import optimizers
from semiseg_jax.training import options as training
from semiseg_jax.workdir import options as workdir

# Keys that are gone -> the value at which the program of today does what it did.
GONE: Flat = {}


# What no name alone can say of older configs: functions of a flat config that return it mended.
def _weight_of_contrast(old: Flat) -> Flat:
  """lambda of pixel contrast was `method.weight`, which is that of other methods now."""
  moved = "method.pixel_contrast.weight"
  if old.get("method.name") != "pixel_contrast" or moved in old or "method.weight" not in old:
    return old
  return {k: v for k, v in old.items() if k != "method.weight"} | {moved: old["method.weight"]}


MENDS: tuple[Callable[[Flat], Flat], ...] = (_weight_of_contrast, evaluation.whole_as_before)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One key of the table.

  path: 'block.key'.  type: its annotation.  default, key: as declared.  owner: the class that
  declares it.
  """

  path: str
  type: Any
  default: Any
  key: Key
  owner: type

  @property
  def block(self) -> str:
    """Path of its block, '' at the top."""
    return self.path.rpartition(".")[0]

  @property
  def name(self) -> str:
    """Without its block."""
    return self.path.rpartition(".")[2]


def blocks() -> dict[str, list[type]]:
  """Returns path of a block -> the classes that declare its keys, in the order of the pipeline."""
  choices = [c for c in vars(shared).values() if isinstance(c, type) and keys_of(c)]
  choices.sort(key=lambda c: c is not shared.Choice)  # the name first
  methods = {f"method.{name}": [module.Options] for name, module in contract.modules().items()}
  return {
    "": [training.Run],
    "data": [data.Options],
    "data.strong": [photometry.Strong],
    "model": [network.Options],
    **{f"model.{name}": [module] for name, module in network.option_blocks().items()},
    "method": choices,
    **{name: classes for name, classes in methods.items() if own_keys(classes[0])},
    "optimizer": [optimizers.Options],
    "train": [training.Train],
    "eval": [evaluation.Options],
    "checkpoint": [workdir.Options],
    "runtime": [training.Runtime],
  }


def keys_of(options: type) -> dict[str, tuple[dataclasses.Field, Key]]:
  """Returns the keys of a class, none if it is no dataclass."""
  return keys(options) if dataclasses.is_dataclass(options) else {}


def table() -> dict[str, Entry]:
  """Returns path -> entry of every key there is, in the order of the pipeline."""
  return dict(_table(tuple((block, tuple(classes)) for block, classes in blocks().items())))


@functools.cache  # of the same classes it is the same
def _table(declared: tuple[tuple[str, tuple[type, ...]], ...]) -> dict[str, Entry]:
  found = {}
  for block, classes in declared:
    for owner in classes:
      for name, (field, known) in own_keys(owner).items():
        path = f"{block}.{name}" if block else name
        if path in ("method.name", "method.add"):  # methods are found by their files
          known = dataclasses.replace(known, one_of=contract.modules)
        found[path] = Entry(path, field.type, field.default, known, owner)
  return found


def default() -> ConfigDict:
  """Returns a config of every key there is at its default."""
  return ConfigDict(nested({path: entry.default for path, entry in table().items()}))


def free() -> frozenset[str]:
  """Returns the keys whose change leaves a run the same run."""
  return frozenset(path for path, entry in table().items() if entry.key.free)


def complete(saved: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the config of an older run with the keys of today.

  A key that it lacks has its default, a renamed one (`Key.was`) its value; one that is gone and
  stood at its old default (GONE) is dropped.

  Args:
    saved: the nested config in the `meta` of a checkpoint, lists for tuples.

  Raises:
    ConfigError: keys with values of their own that this version does not know, all of them.
  """
  entries, old = table(), flat(saved)
  for mend in MENDS:
    old = mend(old)
  for path, entry in entries.items():
    for former in entry.key.was:
      if former in old:
        old.setdefault(path, old.pop(former))
  lost = [
    f"{path}={value!r}"
    for path, value in old.items()
    if path not in entries and not (path in GONE and plain(GONE[path]) == plain(value))
  ]
  if lost:
    raise ConfigError(
      f"This run was made with {', '.join(lost)}, which this version does not know: use the "
      "version that made it."
    )
  return nested({path: plain(old.get(path, entry.default)) for path, entry in entries.items()})


def nested(values: Flat) -> dict[str, Any]:
  """Returns the nested config of {'block.key': value}."""
  found: dict[str, Any] = {}
  for path, value in values.items():
    *into, name = path.split(".")
    block = found
    for part in into:
      block = block.setdefault(part, {})
    block[name] = value
  return found


def plain(value: Any) -> Any:
  """A value with tuples for lists, as JSON knows none."""
  return tuple(value) if isinstance(value, list) else value
