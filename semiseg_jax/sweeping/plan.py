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

from semiseg_jax import yaml_text
from semiseg_jax.arguments import nearest
from semiseg_jax.config import command_line, rules
from semiseg_jax.data import opening, splits
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
  fields, faults = _loaded(file)
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
  planned: list[Planned] = []
  names: set[str] = set()
  for number, one in enumerate(listed, 1):
    name, found, wrong = _planned(one, defaults, out)
    if name in names:
      wrong.append(f"{name!r} is another run too: give each a `name:`.")
    faults += [f"run {number}: {fault}" for fault in wrong]
    names |= {name} - {""}
    planned += found
  if faults:
    raise ConfigError("\n".join([f"{file}: this sweep cannot run:", *faults]))
  return planned


class _Loader(yaml.BaseLoader):
  """All scalars are text: 1e-3, off and 007 stay what was written.

  Attributes:
    faults: keys that are there twice.
  """

  def __init__(self, stream: Any):
    super().__init__(stream)
    self.faults: list[str] = []

  def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    """Builds a mapping, and notes keys that are there twice."""
    seen = set()
    for key, _ in node.value:
      if isinstance(key.value, str) and key.value in seen:
        line = key.start_mark.line + 1
        self.faults.append(f"the key {key.value!r} is there twice, line {line}.")
      seen.add(str(key.value))
    return super().construct_mapping(node, deep)


_Loader.add_constructor(
  yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
  lambda loader, node: loader.construct_mapping(node, deep=True),
)


def _loaded(file: pathlib.Path) -> tuple[dict[str, Any], list[str]]:
  """What the file says, and keys that it says twice."""
  try:
    text = file.read_text()
    yaml_text.check_aliases(text)
    loader = _Loader(text)
    fields = loader.get_single_data()
  except yaml_text.FAULTS as error:
    said = " ".join(str(error).split())
    raise ConfigError(f"{file}: this is no YAML that can be read: {said}") from error
  if not isinstance(fields, dict):
    raise ConfigError(f"{file}: the file of a sweep begins with `runs:`, see --help.")
  return fields, loader.faults


def _unknown(fields: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[str]:
  lines = []
  for name in fields:
    if name not in known:
      near = nearest(str(name), known)
      mean = f" Did you mean {near!r}?" if near else f" It has {', '.join(known)}."
      lines.append(f"{where} has no key {name!r}.{mean}")
  return lines


def _planned(
  one: Any, defaults: Mapping[str, Any], out: pathlib.Path
) -> tuple[str, list[Planned], list[str]]:
  """The name of an item, '' where it has none; a run for each of its seeds; all that is wrong."""
  if not isinstance(one, dict):
    return "", [], [f"{one!r}: write {{config: FILE.py:key=value, ...}}."]
  faults = _unknown(one, (*_RUN, *_DEFAULTS[1:]), "it")
  changes, wrong = _changes(defaults.get("set", {}), one.get("set", {}))
  faults += wrong
  seeds, wrong = _seeds(one.get("seeds", defaults.get("seeds", "0")))
  faults += wrong
  file = one.get("config", defaults.get("config", ""))
  if not isinstance(file, str) or not file:
    return "", [], [*faults, "config: FILE.py or FILE.py:key=value,... is needed."]
  name = one.get("name", _name(file) or "_")
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    faults.append(f"name: {name!r}: letters, digits and _ . + = - make a name.")
  items = [f"{key}={value}" for key, value in changes.items() if key != "seed"]
  config, wrong = _config(file, items)
  faults += wrong
  if faults:
    return str(name), [], faults
  planned, faults = [], []
  for seed in seeds:
    try:
      planned.append(_of_seed(name, seed, file, items, config, out / "runs"))
    except UserError as error:
      faults += str(error).splitlines()
  return name, planned, faults


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


def _config(file: str, changes: list[str]) -> tuple[ConfigDict | None, list[str]]:
  """The config, and all that is wrong with it; changes that cannot be made are left out of it."""
  config, faults = _tried(file, *changes)
  if config is None:
    config, faults = _tried(file)
    plain = file.partition(":")[0]
    ground = file if config is not None else plain
    wrong = {change: _tried(ground, change)[1] for change in changes}
    if config is None and _tried(plain)[0] is None:  # nothing can be said of its keys
      return None, faults
    faults += [fault for lines in wrong.values() for fault in lines]
    if config is None:
      return None, faults
    config, _ = _tried(file, *(change for change in changes if not wrong[change]))
  if config is None:
    return None, faults
  faults += rules.faults(config)
  if not config.data.val:
    faults.append("data.val is empty: nothing would be scored.")
  if not any("data." in fault for fault in faults):
    faults += _of_lists(config)
  return config, faults


def _tried(file: str, *changes: str) -> tuple[ConfigDict | None, list[str]]:
  try:
    return command_line.load(file, *changes), []
  except UserError as error:
    return None, str(error).splitlines()


def _of_lists(config: ConfigDict) -> list[str]:
  """What is wrong with the lists of a data set; nothing of one that the first run makes."""
  if config.data.prepare and not pathlib.Path(config.data.root).is_dir():
    return []
  try:
    runs.check_lists(config)
  except UserError as error:
    faults = str(error).splitlines()
  else:
    return []
  for spec in (config.data.labeled, config.data.train, config.data.val):  # the first one ended it
    try:
      splits.resolve(opening.open_dataset(config.data), spec)
    except UserError as error:
      faults += str(error).splitlines()
  return list(dict.fromkeys(faults))


def _of_seed(
  name: str, seed: int, file: str, changes: list[str], config: ConfigDict, folder: pathlib.Path
) -> Planned:
  workdir = folder / name / f"seed_{seed}"
  config = ConfigDict(config.to_dict())
  config.seed = seed
  config = derived.recalled(config, str(workdir))
  flags = (f"--config={file}", *(f"--config.{c}" for c in (*changes, f"seed={seed}")))
  return Planned(name, seed, flags, config, workdir)
