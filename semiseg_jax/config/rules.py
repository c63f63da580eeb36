"""Checks a config before anything is built: every line names the key and the mend.

Values are checked one by one from the table of keys (domain.py).  Here are the rules that span
keys; what a run reads is in reads.py.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax import segments
from semiseg_jax.config import domain, names, reads, schema
from semiseg_jax.data.augment import families
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import protocol
from semiseg_jax.methods import contract
from semiseg_jax.models import family, network
from semiseg_jax.training import rate_factors
from semiseg_jax.wording import counted


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
  sound = reads.Sound(config, frozenset(wrong))
  lines = [*wrong.values()]
  for rule in (*_RULES, *(() if stage else (contract.whole_faults,))):
    lines += map(str, reads.ask(rule, sound))
  lines = list(dict.fromkeys(lines))  # what two rules come upon is said once
  ignored = reads.ignored_keys(sound, entries)
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
      f"model.family has {counted(total, 'network')} and method.networks={c.method.networks}: make "
      "them "
      "equal; copies=2 in a text of the family takes two of a kind."
    )


def _family_outputs(c: Any) -> Iterator[str]:
  """Outputs that the method does not read, asked for by a text of a family."""
  if not c.model.family:
    return
  unread, usual = tuple(reads.outputs_unread(c)), schema.flat(c.model.block, "model.")
  for text, (model, _) in zip(c.model.family, family.members(c.model.block)):
    for path, value in schema.flat(model, "model.").items():
      if path.startswith(unread) and value != usual[path]:
        name = path.removeprefix("model.")
        yield f"model.family, {text!r}: {reads.named(c)} does not read {name}; leave it out."


def _classifiers(c: Any) -> Iterator[str]:
  """Heads that label whole pictures go with the methods that do, and with no other."""
  wanted = getattr(contract.find(c.method.name), "CLASSIFIES", False)
  kinds = {name: getattr(head, "labels_pictures", False) for name, head in network.HEADS.items()}
  possible = [name for name, kind in kinds.items() if kind == wanted]
  for head in dict.fromkeys(model.head for model in reads.architectures(c)):
    if kinds.get(head, wanted) != wanted:  # an unknown head is told already
      what = "classes of whole pictures" if wanted else "labels of pixels"
      yield f"model.head={head!r}: {reads.named(c)} learns {what}; it takes {', '.join(possible)}."


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
      f"eval.stack={c.eval.stack!r}: {reads.named(c)} has {', '.join(possible)}, or several "
      "joined with '+'."
    )


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
      f"train.accumulate={parts}: {reads.named(c)} needs the whole batch at once; set it to 1 and "
      "use a smaller batch or more devices."
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
  try:
    protocol.networks_of(scored, last + 1)
  except ConfigError as error:
    yield f"eval.{error}"


def _protocol(c: Any) -> Iterator[str]:
  try:
    protocol.from_config(c.eval)
  except ConfigError as error:
    yield f"eval: {error}"


def _sides(c: Any) -> Iterator[str]:
  if c.model.family:  # each network gets pictures resized to what fits it
    return
  multiple = network.side_multiple(c.model)
  sizes = {"data.crop": c.data.crop}
  if c.eval.mode in ("slide", "center_crop"):  # whole pictures are resized to what fits
    sizes["eval.window"] = c.eval.window
  for key, size in sizes.items():
    if any(side % multiple for side in size):
      yield (
        f"{key}={size}: model.backbone={c.model.backbone!r} takes sides that are multiples of "
        f"{multiple}, such as {37 * multiple} or {57 * multiple}."
      )


def _baseline(c: Any) -> Iterator[str]:
  """Labels alone are compared with a method that reads unlabeled pictures, by its evaluation."""
  if not c.train.baseline:
    return
  if getattr(contract.find(c.method.name), "CLASSIFIES", False):
    yield f"train.baseline=True: {reads.named(c)} labels no pixels; set it to False."
  elif "unlabeled" not in contract.sources(c):
    yield f"train.baseline=True: {reads.named(c)} is that of labels alone; set it to False."
  if not c.data.val:
    yield "train.baseline=True: both runs are compared by their scores: give data.val a list."


def _quirks(c: Any) -> Iterator[str]:
  known = contract.quirks(c)
  if known and set(c.method.compat) - set(known):
    yield f"method.compat={c.method.compat}: {reads.named(c)} knows {', '.join(known)}."


_RULES = (
  _baseline,
  *(_roots, _channels, _scales, _rare, _hue, _batches, _loss_groups, _class_weights, _steps),
  *(
    _windows,
    _scored,
    _protocol,
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
