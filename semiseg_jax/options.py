"""Keys of a config: each is a field of a dataclass in the room that reads it.

    @dataclasses.dataclass(frozen=True)
    class Options:
      decay: float = key(0.99, "of the average, at most; 1 - 1/(t+1) before", at_least=0, below=1)

Default, consequence and possible values of a key are said there and nowhere else.
semiseg_jax/config joins these dataclasses to the config, checks it and prints it.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_METADATA = "key"
Flat = dict[str, Any]  # 'block.key' -> value


@dataclasses.dataclass(frozen=True)
class Key:
  """What is known of a key besides its name, type and default.

  Attributes:
    help: the consequence of its value, for people.
    at_least, above, at_most, below: bounds of a number, or of every number of a tuple.
    one_of: possible values (of every item of a tuple), or a function that gives them; None: any.
    length: possible numbers of items of a tuple; empty: any number.
    rises: whether the two numbers of a tuple are (lowest, highest).
    required: whether every config must choose it; the default stands for nothing.
    when: {other key of the block, or of the block around it: its values under which this one is
      read}.
    free: whether a change of it leaves a run the same run: it is resumed all the same.
    was: the names (with their blocks) that the key had in older runs.
  """

  help: str
  at_least: float | None = None
  above: float | None = None
  at_most: float | None = None
  below: float | None = None
  one_of: Iterable[Any] | Callable[[], Iterable[Any]] | None = None
  length: tuple[int, ...] = ()
  rises: bool = False
  required: bool = False
  when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
  free: bool = False
  was: tuple[str, ...] = ()


def key(default: Any, help: str, **domain: Any) -> Any:
  """Returns a dataclass field that is a key of a config.

  Args:
    default: of the key; a run saved before the key existed had this value.
    help: the consequence of its value.
    **domain: see `Key`.
  """
  return dataclasses.field(default=default, metadata={_METADATA: Key(help, **domain)})


@functools.cache  # a config is looked through key by key
def keys(options: type) -> dict[str, tuple[dataclasses.Field, Key]]:
  """Returns name -> (field, key) of all keys of a dataclass, inherited ones included."""
  return {
    field.name: (field, field.metadata[_METADATA])
    for field in dataclasses.fields(options)
    if _METADATA in field.metadata
  }


@functools.cache
def own_keys(options: type) -> dict[str, tuple[dataclasses.Field, Key]]:
  """Returns the keys that the class itself declares, without those of its bases."""
  declared = inspect.get_annotations(options)
  return {name: found for name, found in keys(options).items() if name in declared}


def defaults(options: type) -> dict[str, Any]:
  """Returns name -> default of all keys of a dataclass."""
  return {name: field.default for name, (field, _) in keys(options).items()}


def completed(options: type, prefix: str, old: Flat) -> dict[str, Any]:
  """Returns name -> value of all keys of a dataclass, as an older config has them.

  Args:
    options: the dataclass.
    prefix: of the paths of its keys: their block and a dot.
    old: the older config; a key that it lacks has a former name (`Key.was`) or its default.
  """
  found = {}
  for name, (field, known) in keys(options).items():
    former = [old[path] for path in (prefix + name, *known.was) if path in old]
    found[name] = former[0] if former else field.default
  return found


def flat(config: Mapping[str, Any], prefix: str = "") -> Flat:
  """Returns {'block.key': value} of a nested config."""
  found: Flat = {}
  for name, value in config.items():
    inner = hasattr(value, "items")
    found.update(flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value})
  return found
