"""Checks a config before anything is built: every line names the key and the mend.

Values are checked one by one from the table of keys (domain.py).  Here are the rules that span
keys, and what a run reads.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax import segments
from semiseg_jax.config import domain, names, schema
from semiseg_jax.data.augment import families
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models import family, network
from semiseg_jax.training import rate_factors

_UNLABELED = ("data.unlabeled", "data.unlabeled_root", "data.unlabeled_photometry")
_NOT_CUT = ("scales", "base_size", "compat", "rare_crop", "rare_classes")
_TFDS = tuple(f"data.tfds_{name}" for name in ("image", "label", "id", "classes", "ignored"))
Unread = Iterator[tuple[str, str]]


def validate(config: ConfigDict, *, stage: bool = False) -> None:
  """Raises ConfigError with all that is wrong in the values themselves; see `faults`."""
  found = faults(config, stage=stage)
  if found:
    raise ConfigError("This config cannot run:\n  " + "\n  ".join(found))


def faults(config: ConfigDict, *, stage: bool = False) -> list[str]:
  """Returns a line for each fault: of single values, of keys together, of keys nobody reads.

  The config of a stage keeps keys of the whole run that only other stages read.  A derived key may
  be one that another choice, given in place of what was derived, made idle.
  """
  entries, values = schema.table(), schema.flat(config.to_dict())
  wrong = {path: names.unknown(path, entries) for path in values if path not in entries}
  for path, entry in entries.items():
    line = domain.fault(entry, values[path]) if path in values else f"{path} is missing."
    if line:
      wrong[path] = line
  sound = _Sound(config, frozenset(wrong))
  lines = [*wrong.values()]
  for rule in (*_RULES, *(() if stage else (contract.whole_faults,))):
    lines += map(str, _ask(rule, sound))
  lines = list(dict.fromkeys(lines))  # what two rules come upon is said once
  ignored = _unread(sound, entries)
  lines = [line for line in lines if not _of_unread(line, ignored, entries)]
  for path, choice in ignored.items():
    value = schema.plain(values.get(path))
    neutral = entries[path].default
    idle = any(text.startswith(f"{path}={value!r}: ") for text in values.get("derived", ()))
    if path not in wrong and value != neutral and not idle:
      lines.append(f"{path}={value!r}: {choice} does not read it; leave it at {neutral!r}.")
  return lines


def _of_unread(line: str, ignored: dict[str, str], entries: dict[str, schema.Entry]) -> bool:
  """Whether a line asks for a key that is required, but not by this run."""
  required = (path for path in ignored if entries[path].key.required)
  return any(line.startswith(f"{path} is empty") for path in required)


def unread(config: ConfigDict) -> dict[str, str]:
  """Returns the keys that a run of this config does not read -> the choice that is why."""
  entries = schema.table()
  values = schema.flat(config.to_dict())
  wrong = (p for p, e in entries.items() if p not in values or domain.fault(e, values[p]))
  return _unread(_Sound(config, frozenset(wrong)), entries)


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


class _Sound:
  """A config that raises where a value is at fault: rules speak of sound ones only."""

  def __init__(self, block: ConfigDict, wrong: frozenset[str], prefix: str = ""):
    self._block, self._wrong, self._prefix = block, wrong, prefix

  def __getattr__(self, name: str) -> Any:
    path = self._prefix + name
    if path in self._wrong or name not in self._block:
      raise _UnsoundError(path)
    value = self._block[name]
    if isinstance(value, ConfigDict):
      return _Sound(value, self._wrong, f"{path}.")
    return schema.plain(value)

  @property
  def block(self) -> ConfigDict:
    """The block itself, sound or not."""
    return self._block

  def keys(self) -> Iterable[str]:
    return self._block.keys()

  def __getitem__(self, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), self)


def _ask(rule: Callable[[Any], Iterable[Any]], config: _Sound) -> list[Any]:
  """What a rule says before it comes to a value that is at fault by itself."""
  said = []
  try:
    for line in rule(config):
      said.append(line)
  except _UnsoundError:
    pass
  except ConfigError as error:
    said.append(error)
  return said


def _unread(c: _Sound, entries: dict[str, schema.Entry]) -> dict[str, str]:
  found: dict[str, str] = {}
  conditions = [functools.partial(_unmet, e, entries) for e in entries.values() if e.key.when]
  for reader in (*_READERS, *conditions):
    for path, choice in (x for x in _ask(reader, c) if isinstance(x, tuple)):
      for key in entries if path.endswith(".") else (path,):
        if key.startswith(path) and key in entries:
          found.setdefault(key, choice)
  return found


def _by_method(c: Any) -> Unread:
  reads, chosen = contract.reads(c), _method(c)
  for path in schema.table():
    if path.startswith("method.") and path not in reads:
      yield path, chosen


def _method(c: Any) -> str:
  added = f" with method.add={c.method.add}" if c.method.add else ""
  return f"method.name={c.method.name!r}{added}"


def _by_network(c: Any) -> Unread:
  models = _architectures(c)
  read = set().union(*(network.blocks_read(model) for model in models))
  chosen = f"model.backbone={c.model.backbone!r} with model.head={c.model.head!r}"
  if c.model.family:
    chosen = f"model.family={c.model.family}"
  for block in network.option_blocks():
    if block not in read:
      yield f"model.{block}.", chosen
  yield from ((path, _method(c)) for path in _outputs_unread(c))


def _outputs_unread(c: Any) -> list[str]:
  """Keys of outputs of the network that neither the method nor a term reads.

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


def _architectures(c: Any) -> list[ConfigDict]:
  """The block of every architecture; only that of the config where its family is at fault."""
  try:
    return [model for model, _ in family.members(c.model.block)]
  except ConfigError:
    return [c.model.block]


def _family(c: Any) -> Iterator[str]:
  """Every network of a family by the rules of the block `model`."""
  if not c.model.family:
    return
  entries, usual = schema.table(), schema.flat(c.model.block, "model.")
  found = family.members(c.model.block)
  for text, (model, _) in zip(c.model.family, found):
    values = schema.flat(model, "model.")
    faults = [domain.fault(entries[path], value) for path, value in values.items()]
    yield from (f"model.family, {text!r}: {fault}" for fault in faults if fault)
    if any(faults):
      continue
    read = {"", *network.blocks_read(model)}
    for path, value in values.items():
      if entries[path].block.removeprefix("model").lstrip(".") not in read and value != usual[path]:
        yield f"model.family, {text!r}: this network does not read {path.removeprefix('model.')}."
  total = sum(copies for _, copies in found)
  if total != c.method.networks:
    yield (
      f"model.family has {total} networks and method.networks={c.method.networks}: make them "
      "equal; copies=2 in a text of the family takes two of a kind."
    )


def _family_outputs(c: Any) -> Iterator[str]:
  """Outputs that the method does not read, asked for by a text of a family."""
  if not c.model.family:
    return
  unread, usual = tuple(_outputs_unread(c)), schema.flat(c.model.block, "model.")
  for text, (model, _) in zip(c.model.family, family.members(c.model.block)):
    for path, value in schema.flat(model, "model.").items():
      if path.startswith(unread) and value != usual[path]:
        name = path.removeprefix("model.")
        yield f"model.family, {text!r}: {_method(c)} does not read {name}; leave it out."


def _classifiers(c: Any) -> Iterator[str]:
  """Heads that label whole pictures go with the methods that do, and with no other."""
  wanted = getattr(contract.find(c.method.name), "CLASSIFIES", False)
  kinds = {name: getattr(head, "labels_pictures", False) for name, head in network.HEADS.items()}
  possible = [name for name, kind in kinds.items() if kind == wanted]
  for head in dict.fromkeys(model.head for model in _architectures(c)):
    if kinds.get(head, wanted) != wanted:  # an unknown head is told already
      what = "classes of whole pictures" if wanted else "labels of pixels"
      yield f"model.head={head!r}: {_method(c)} learns {what}; it takes {', '.join(possible)}."


def _schedule(c: Any) -> Iterator[str]:
  if c.optimizer.warmup_steps and c.optimizer.warmup_steps >= c.train.steps:
    yield (
      f"optimizer.warmup_steps={c.optimizer.warmup_steps}: fewer than train.steps={c.train.steps}."
    )
  rate_factors.parse(c.optimizer.multipliers)
  segments.of(c.optimizer.continued, c.train.steps)


def _frozen(c: Any) -> Iterator[str]:
  if c.train.frozen_statistics and not (c.model.pretrained or c.model.family or c.init_from):
    yield (
      "train.frozen_statistics=True: the running statistics of a fresh network are 0 and 1; set "
      "model.pretrained or init_from."
    )


def _evaluated(c: Any) -> Iterator[str]:
  if not c.eval.stack:
    return
  nets = contract.find(c.method.name).nets(c)
  possible = [net.name for net in nets if net.role != "critic"]
  chosen = c.eval.stack.split("+")
  if not set(chosen) <= set(possible) or len(set(chosen)) < len(chosen):
    yield (
      f"eval.stack={c.eval.stack!r}: {_method(c)} has {', '.join(possible)}, or several joined "
      "with '+'."
    )


def _by_sources(c: Any) -> Unread:
  sources = contract.sources(c)
  if "unlabeled" not in sources:
    yield from ((path, _method(c)) for path in _UNLABELED)
  if not sources - {"labeled", "unlabeled"}:
    yield "data.sources", _method(c)
  if not contract.stored_targets(c):
    yield "data.targets", _method(c)


def _by_views(c: Any) -> Unread:
  if contract.strong_views(c):
    return
  jitters = "jitter" in (c.data.labeled_photometry, c.data.unlabeled_photometry)
  for path in schema.table():
    if path.startswith("data.strong.") and not (jitters and path == "data.strong.jitter"):
      yield path, _method(c)


def _by_whole_pictures(c: Any) -> Unread:
  """Pictures that are neither scaled nor cut, and networks that cut none into windows."""
  if contract.views(c) == {"whole"}:
    yield from ((f"data.{name}", _method(c)) for name in _NOT_CUT)
  if getattr(contract.find(c.method.name), "CLASSIFIES", False):
    for name in ("mode", "whole", "window", "stride", "batch", "pictures"):
      yield f"eval.{name}", _method(c)


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


def _roots(c: Any) -> Iterator[str]:
  for name in ("root", "unlabeled_root"):
    root = getattr(c.data, name)
    if "://" in root:
      yield f"data.{name}={root!r}: object stores cannot be read yet; give a folder."


def _channels(c: Any) -> Iterator[str]:
  if not 0 < len(c.data.mean) == len(c.data.std):
    yield f"data.mean={c.data.mean}, data.std={c.data.std}: one positive std per mean."


def _scales(c: Any) -> Iterator[str]:
  scales = c.data.scales
  if not scales:
    yield f"data.scales={scales}: one or more factors."
  elif c.data.augment not in families.CONTINUOUS or contract.views(c) == {"whole"}:
    return
  elif not (len(scales) == 2 and scales[0] <= scales[1]):
    yield f"data.scales={scales}: data.augment={c.data.augment!r} takes (lowest, highest)."


def _rare(c: Any) -> Iterator[str]:
  if c.data.rare_classes and not c.data.rare_crop:
    yield (
      f"data.rare_classes={c.data.rare_classes}: data.rare_crop=0 lays no crop around them; give a "
      "probability, such as 0.33."
    )


def _hue(c: Any) -> Iterator[str]:
  if c.data.strong.jitter[3] > 0.5:
    yield f"data.strong.jitter={c.data.strong.jitter}: the last, of hue, at most 0.5."


def _batches(c: Any) -> Iterator[str]:
  batches, parts = (c.train.batch_labeled, c.train.batch_unlabeled), c.train.accumulate
  if any(b % parts for b in batches):
    yield f"train.accumulate={parts}: 1, or a divisor of the batches {batches}."
  if parts > 1 and not contract.divisible(c):
    yield (
      f"train.accumulate={parts}: {_method(c)} needs the whole batch at once; set it to 1 and use "
      "a smaller batch or more devices."
    )
  group = c.train.bn_group
  if group and any(b // parts % group for b in batches):
    yield (
      f"train.bn_group={group}: 0, or a divisor of the batches {batches} (of their parts, where "
      "train.accumulate cuts them)."
    )


def _loss_groups(c: Any) -> Iterator[str]:
  group, labeled = c.method.loss_group, c.train.batch_labeled
  if group and labeled // c.train.accumulate % group:
    yield (
      f"method.loss_group={group}: 0, or a divisor of the {labeled} labeled pictures of a batch "
      "(of a part of it, where train.accumulate cuts it)."
    )


def _class_weights(c: Any) -> Iterator[str]:
  if c.method.class_weighting == "given" and not any(c.method.class_weight_list):
    yield (
      f"method.class_weight_list={c.method.class_weight_list}: method.class_weighting='given' "
      "takes one number per class, such as 0.5,1,4."
    )


def _steps(c: Any) -> Iterator[str]:
  if c.profile_steps and c.profile_steps[1] >= c.train.steps:
    yield f"profile_steps={c.profile_steps}: below train.steps={c.train.steps}."
  if c.checkpoint.spaced > c.train.steps:
    yield f"checkpoint.spaced={c.checkpoint.spaced}: at most train.steps={c.train.steps}."


def _windows(c: Any) -> Iterator[str]:
  stride, window = c.eval.stride, c.eval.window
  if any(s > w for s, w in zip(stride, window)):
    yield (
      f"eval.stride={stride}: (down, right), each at most its side of the window {window}; 0 is "
      "2/3 of it."
    )


def _scored(c: Any) -> Iterator[str]:
  module = contract.modules().get(c.block.method.name)  # whatever else is wrong with it
  evaluated = getattr(module, "EVALUATED", (contract.SEGMENTATION,))
  nets = len(c.eval.stack.split("+") if c.eval.stack else evaluated)
  scored, last = c.eval.network, nets * c.method.networks - 1
  if scored != "mean" and not (scored.isdigit() and int(scored) <= last):
    yield f"eval.network={scored!r}: 0 to {last}, or 'mean'."


def _sides(c: Any) -> Iterator[str]:
  if c.model.family:  # each network gets pictures resized to what fits it
    return
  multiple = network.side_multiple(c.model)
  sizes = {"data.crop": c.data.crop}
  if c.eval.mode == "slide":  # whole pictures are resized to what fits
    sizes["eval.window"] = c.eval.window
  for key, size in sizes.items():
    if any(side % multiple for side in size):
      yield (
        f"{key}={size}: model.backbone={c.model.backbone!r} takes sides that are multiples of "
        f"{multiple}, such as {37 * multiple} or {57 * multiple}."
      )


def _quirks(c: Any) -> Iterator[str]:
  known = contract.quirks(c)
  if known and set(c.method.compat) - set(known):
    yield f"method.compat={c.method.compat}: {_method(c)} knows {', '.join(known)}."


_RULES = (
  *(_roots, _channels, _scales, _rare, _hue, _batches, _loss_groups, _class_weights, _steps),
  *(
    _windows,
    _scored,
    _sides,
    _family,
    _family_outputs,
    _classifiers,
    _schedule,
    _frozen,
    _evaluated,
    _quirks,
    contract.faults,
  ),
)


def check_dataset(config: ConfigDict, dataset: Dataset) -> None:
  """Raises ConfigError where the config does not fit the data set."""
  channels = dataset.info.channels
  if len(config.data.mean) != channels:
    raise ConfigError(
      f"{dataset.info.name} has pictures of {channels} channels, data.mean and data.std have "
      f"{len(config.data.mean)}: prepare it again, which measures them, or give one number per "
      f'channel, e.g. --config.data.mean="{(0.5,) * channels}" '
      f'--config.data.std="{(0.5,) * channels}".'
    )
  kinds = {config.data.labeled_photometry, config.data.unlabeled_photometry}
  if contract.strong_views(config):
    kinds.add("strong views")
  if channels != 3 and kinds - {"none", "brightness"}:
    raise ConfigError(
      f"{dataset.info.name} has pictures of {channels} channels, and {', '.join(sorted(kinds))} "
      "change the colors of RGB: set data.labeled_photometry and data.unlabeled_photometry to "
      "'none', and choose a method without strong views."
    )
  found = contract.faults_of_classes(config, len(dataset.info.classes))
  unknown = [name for name in config.data.rare_classes if name not in dataset.info.classes]
  if unknown:
    found.append(
      f"data.rare_classes: {', '.join(unknown)}: no such class; there are: "
      f"{', '.join(dataset.info.classes)}."
    )
  if found:
    raise ConfigError(f"{dataset.info.name}: " + "\n  ".join(found))
