"""The file of a sweep, read and checked as a whole before the first run.

    defaults:                    # of every run; its own go before
      seeds: [0, 1]
      set: {train.steps: 300}
    runs:
      - config: configs/cps_toy.py:method=cps
      - {name: long, config: configs/cps_toy.py:method=unimatch, set: {train.steps: 900}}

What stands at `set` is text, as behind --config.KEY= on a command line.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml
from ml_collections import ConfigDict

from semiseg_jax.arguments import nearest
from semiseg_jax.config import command_line, rules
from semiseg_jax.errors import ConfigError, UserError
from semiseg_jax.options import flat
from semiseg_jax.training import derived
from semiseg_jax.training import run as runs

_TOP, _DEFAULTS, _RUN = ("defaults", "runs"), ("config", "seeds", "set"), ("name", "config")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
_MOST = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Planned:
  """One run of a sweep.

  Attributes:
    name: of its line in the table.
    seed: of this run; those of one name differ in nothing else.
    arguments: of semiseg_jax.main, without its folder.
    config: that they give.
    workdir: its folder.
  """

  name: str
  seed: int
  arguments: tuple[str, ...]
  config: ConfigDict
  workdir: pathlib.Path

  @property
  def title(self) -> str:
    """For people, and in the record of the sweep."""
    return f"{self.name}, seed {self.seed}"


def read(file: pathlib.Path, out: pathlib.Path) -> list[Planned]:
  """Returns the runs of a file in its order: all seeds of the first, then of the next.

  Args:
    file: YAML, see above.
    out: folder of the sweep; a run has OUT/runs/NAME/seed_N.

  Raises:
    ConfigError: all that is wrong in the file, and in the configs that it names.
    OSError: it cannot be read.
  """
  fields, faults = _loaded(file), []
  faults += _unknown(fields, _TOP, "the file")
  defaults = fields.get("defaults") or {}
  if not isinstance(defaults, dict):
    faults.append("defaults: this is a mapping of config, seeds and set.")
    defaults = {}
  faults += _unknown(defaults, _DEFAULTS, "defaults")
  listed = fields.get("runs")
  if not isinstance(listed, list) or not listed:
    faults.append("runs: a list is needed, of at least one {config: FILE.py:key=value, ...}.")
    listed = []
  planned: dict[str, list[Planned]] = {}
  for number, one in enumerate(listed, 1):
    try:
      found = _planned(one, defaults, out)
    except _FaultsError as error:
      faults += [f"run {number}: {fault}" for fault in error.faults]
      continue
    if found[0].name in planned:
      faults.append(f"run {number}: {found[0].name!r} is another run too: give each a `name:`.")
    planned[found[0].name] = found
  if faults:
    raise ConfigError.of_all(f"{file}: this sweep cannot run:", faults)
  return [run for found in planned.values() for run in found]


class _FaultsError(Exception):
  """What is wrong with one run of a file, a line each."""

  def __init__(self, faults: list[str]):
    super().__init__(faults)
    self.faults = faults


class _Loader(yaml.BaseLoader):
  """All scalars are text: 1e-3, off and 007 stay what was written.  A key stands once."""

  def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    """Builds a mapping, and refuses a key that is there twice."""
    seen = set()
    for key, _ in node.value:
      if key.value in seen:
        raise yaml.constructor.ConstructorError(
          None, None, f"the key {key.value!r} is there twice", key.start_mark
        )
      seen.add(key.value)
    return super().construct_mapping(node, deep)


_Loader.add_constructor(
  yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
  lambda loader, node: loader.construct_mapping(node, deep=True),
)


def _loaded(file: pathlib.Path) -> dict[str, Any]:
  try:
    fields = yaml.load(file.read_text(), _Loader)
  except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
    said = " ".join(str(error).split())
    raise ConfigError(f"{file}: this is no YAML that can be read: {said}") from error
  if not isinstance(fields, dict):
    raise ConfigError(f"{file}: the file of a sweep begins with `runs:`, see --help.")
  return fields


def _unknown(fields: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[str]:
  lines = []
  for name in fields:
    if name not in known:
      near = nearest(str(name), known)
      mean = f" Did you mean {near!r}?" if near else f" It has {', '.join(known)}."
      lines.append(f"{where} has no key {name!r}.{mean}")
  return lines


def _planned(one: Any, defaults: Mapping[str, Any], out: pathlib.Path) -> list[Planned]:
  """The runs of one item, a run for each seed."""
  if not isinstance(one, dict):
    raise _FaultsError([f"{one!r}: write {{config: FILE.py:key=value, ...}}."])
  faults = _unknown(one, (*_RUN, *_DEFAULTS[1:]), "it")
  changes, wrong = _changes(defaults.get("set", {}), one.get("set", {}))
  faults += wrong
  seeds, wrong = _seeds(one.get("seeds", defaults.get("seeds", "0")))
  faults += wrong
  file = one.get("config", defaults.get("config", ""))
  if not isinstance(file, str) or not file:
    faults.append("config: FILE.py or FILE.py:key=value,... is needed.")
  name = one.get("name", _name(str(file)) or "_")
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    faults.append(f"name: {name!r}: letters, digits and _ . + = - make a name.")
  if faults:
    raise _FaultsError(faults)
  items = [f"{key}={value}" for key, value in changes.items()]
  config = _config(file, items)
  return [_of_seed(name, seed, file, items, config, out / "runs") for seed in seeds]


def _name(config: str) -> str:
  path, _, chosen = config.partition(":")
  return re.sub(
    r"[^A-Za-z0-9_.+=-]+", "_", "_".join(filter(None, (pathlib.Path(path).stem, chosen)))
  )


def _changes(*sets: Any) -> tuple[dict[str, str], list[str]]:
  """Key -> value as text, later ones before earlier, and what is wrong."""
  found, faults = {}, []
  for given in sets:
    if not isinstance(given, dict):
      faults.append(f"set: {given!r}: write {{train.steps: 300, ...}}.")
      continue
    for key, value in flat(given).items():
      if key == "seed":
        faults.append("set: seed: say it with `seeds:`.")
      if isinstance(value, list):
        value = ",".join(map(str, value))
      found[key] = value
  return found, faults


def _seeds(given: Any) -> tuple[list[int], list[str]]:
  texts = given if isinstance(given, list) else [given]
  right = [t for t in texts if isinstance(t, str) and t.isdecimal() and int(t) <= _MOST]
  seeds = [int(text) for text in right]
  if not seeds or len(right) < len(texts) or len(set(seeds)) < len(seeds):
    return [], [f"seeds: {given!r}: write whole numbers from 0 on, each once: [0, 1, 2]."]
  return seeds, []


def _config(file: str, changes: list[str]) -> ConfigDict:
  try:
    config = command_line.load(file, *changes)
  except UserError as error:
    raise _FaultsError(str(error).splitlines()) from error
  faults = rules.faults(config)
  if not config.data.val:
    faults.append("data.val is empty: nothing would be scored.")
  if faults:
    raise _FaultsError(faults)
  root = pathlib.Path(config.data.root)
  if root.is_dir() or not config.data.prepare:  # otherwise the first run makes it
    try:
      runs.check_lists(config)
    except UserError as error:
      raise _FaultsError(str(error).splitlines()) from error
  return config


def _of_seed(
  name: str, seed: int, file: str, changes: list[str], config: ConfigDict, folder: pathlib.Path
) -> Planned:
  workdir = folder / name / f"seed_{seed}"
  config = ConfigDict(config.to_dict())
  config.seed = seed
  try:
    config = derived.recalled(config, str(workdir))
  except UserError as error:
    raise _FaultsError([str(error)]) from error
  flags = (f"--config={file}", *(f"--config.{c}" for c in (*changes, f"seed={seed}")))
  return Planned(name, seed, flags, config, workdir)
