"""Checks a config before anything is built: every message names the key and the mend."""

import functools
import operator
from collections.abc import Sequence
from types import ModuleType

from ml_collections import ConfigDict

from semiseg_jax.config.config_types import wrong_types
from semiseg_jax.data.augment import families
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.models import network
from semiseg_jax.ops import photometry

# Keys that some methods do not read, with the values that say nothing: the defaults of the configs.
_CUTMIX = {
  "method.cutmix_partner": "different_image",
  "method.cutmix_boxes": 3,
  "method.cutmix_area": (0.25, 0.5),
}
_OHEM = {"method.ohem_threshold": 0.7, "method.ohem_kept_fraction": 0.078125}
_UNLABELED = {
  "data.unlabeled": "rest",
  "data.unlabeled_root": "",
  "data.unlabeled_photometry": "none",
}
_TFDS = {
  "data.tfds_image": "image",
  "data.tfds_label": "segmentation_mask",
  "data.tfds_id": "",
  "data.tfds_classes": "",
  "data.tfds_ignored": (),
}


_STRONG = {
  "data.strong.order": ("jitter", "gray", "blur"),
  "data.strong.jitter_p": 0.8,
  "data.strong.gray_p": 0.2,
  "data.strong.blur_p": 0.5,
  "data.strong.blur_sigma": (0.1, 2.0),
  "data.strong.blur_taps": 0,
}
# What a method may name in its READS -> the keys that it reads then.
SHARED = {
  "networks": {"method.networks": 1},
  "weight": {"method.weight": 1.5},
  "weight_ramp_steps": {"method.weight_ramp_steps": 0},
  "cutmix": {"method.cutmix": False},
  "pseudo_label_bn": {"method.pseudo_label_bn": "train"},
  "unlabeled": _UNLABELED,
  "strong": _STRONG,
}


def _unread_augmentation(c: ConfigDict) -> list[tuple[str, dict[str, object]]]:
  found = []
  photometry_kinds = (c.data.labeled_photometry, c.data.unlabeled_photometry)
  if "strong" not in _reads(c) and "jitter" not in photometry_kinds:
    found.append((f"method.name={c.method.name!r}", {"data.strong.jitter": (0.5, 0.5, 0.5, 0.25)}))
  if c.data.strong.blur_taps:
    found.append(("data.strong.blur_taps", {"data.strong.blur_sigma": (0.1, 2.0)}))
  if c.data.augment not in ("unimatch", "cac"):
    found.append((f"data.augment={c.data.augment!r}", {"data.base_size": 0}))
  if c.data.augment != "cac":
    found.append((f"data.augment={c.data.augment!r}", {"data.pair_scales": (0.8, 2.0)}))
  if c.data.augment != "cps":
    found.append((f"data.augment={c.data.augment!r}", {"data.compat": ()}))
  return found


def _unread_by_method(c: ConfigDict) -> list[tuple[str, dict[str, object]]]:
  name = c.method.name
  chosen = f"method.name={name!r}"
  reads = _reads(c)
  found = [(chosen, keys) for what, keys in SHARED.items() if what not in reads]
  if not c.method.cutmix:
    found.append(("a method without CutMix", _CUTMIX))
    if "pseudo_label_bn" in reads:
      found.append(("a method without CutMix", SHARED["pseudo_label_bn"]))
  if not _quirks(c):
    found.append((chosen, {"method.compat": ()}))
  for other, options in _contract().options().items():
    if other != name:
      found.append((chosen, {f"method.{other}.{key}": v for key, v in options.items()}))
  return found


def _reads(c: ConfigDict) -> tuple[str, ...]:
  """Of SHARED, what the method reads; all of it where there is no such method."""
  return getattr(_contract().modules().get(c.method.name), "READS", tuple(SHARED))


def _quirks(c: ConfigDict) -> tuple[str, ...]:
  return getattr(_contract().modules().get(c.method.name), "COMPAT", ())


def _contract() -> ModuleType:
  # At the top this would be a circle: methods run stacks, which lie on meshes, which raise
  # ConfigError.
  from semiseg_jax.methods import contract

  return contract


def _unread(c: ConfigDict) -> list[tuple[str, dict[str, object]]]:
  """Returns (the choice, {key that it does not read: neutral value}) for the choices made."""
  found = _unread_by_method(c)
  if c.method.supervised_loss == "ce":
    found.append(("method.supervised_loss='ce'", _OHEM))
  found.extend(_unread_augmentation(c))
  if not any(root.startswith("tfds:") for root in (c.data.root, c.data.unlabeled_root)):
    found.append(("a data.root that is no tfds build", _TFDS))
  chosen = f"model.backbone={c.model.backbone!r} with model.head={c.model.head!r}"
  try:
    read = network.blocks_read(c.model)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  for block, options in network.neutral_options().items():
    if block not in read:
      found.append((chosen, {f"model.{block}.{key}": v for key, v in options.items()}))
  return found


def validate(config: ConfigDict) -> None:
  """Raises ConfigError with all that is wrong in the values themselves."""
  wrong = wrong_types(config) or _unknown_names(config)
  if wrong:  # the rules cannot read these
    raise ConfigError("This config cannot run:\n  " + "\n  ".join(wrong))
  rules = [*_data_rules(config), *_method_rules(config), *_run_rules(config)]
  wrong = [text for ok, text in rules if not ok]
  flat = config.to_dict()
  for choice, keys in _unread(config):
    for key, neutral in keys.items():
      value = functools.reduce(operator.getitem, key.split("."), flat)
      if (tuple(value) if isinstance(value, list) else value) != neutral:
        wrong.append(f"{key}={value!r}: {choice} does not read it; leave it at {neutral!r}.")
  wrong += _wrong_sides(config)
  if wrong:
    raise ConfigError("This config cannot run:\n  " + "\n  ".join(wrong))


def _unknown_names(c: ConfigDict) -> list[str]:
  """On these depends which keys are read."""
  chosen = {
    "method.name": (c.method.name, _contract().modules()),
    "model.backbone": (c.model.backbone, network.BACKBONES),
    "model.head": (c.model.head, network.HEADS),
  }
  return [
    f"{key}={name!r} is unknown; there are: {', '.join(known)}."
    for key, (name, known) in chosen.items()
    if name not in known
  ]


def _wrong_sides(c: ConfigDict) -> list[str]:
  multiple = network.side_multiple(c.model)
  sizes = {"data.crop": c.data.crop}
  if c.eval.mode == "slide":  # whole pictures are resized to what fits
    sizes["eval.window"] = c.eval.window
  return [
    f"{key}={tuple(size)}: model.backbone={c.model.backbone!r} takes sides that are multiples of "
    f"{multiple}, such as {37 * multiple} or {57 * multiple}."
    for key, size in sizes.items()
    if any(side % multiple for side in size)
  ]


def _data_rules(c: ConfigDict) -> list[tuple[bool, str]]:
  return [
    (bool(c.data.root), "data.root is empty: the folder that a data_prep command wrote."),
    (
      "://" not in c.data.root,
      f"data.root={c.data.root!r}: object stores cannot be read yet; give a folder.",
    ),
    (
      "://" not in c.data.unlabeled_root,
      f"data.unlabeled_root={c.data.unlabeled_root!r}: object stores cannot be read yet; give a "
      "folder.",
    ),
    (bool(c.data.labeled), "data.labeled is empty: the list of labeled pictures."),
    (len(c.data.crop) == 2 and min(c.data.crop) > 0, f"data.crop={c.data.crop}: (height, width)."),
    *_augmentation_rules(c),
    (0 <= c.data.flip <= 1, f"data.flip={c.data.flip}: a probability."),
    (
      len(c.data.mean) == len(c.data.std) > 0 and min(c.data.std) > 0,
      f"data.mean={c.data.mean}, data.std={c.data.std}: one positive std per mean.",
    ),
    (
      not set(c.data.compat) - {"crop_offset"},
      f"data.compat={c.data.compat}: only 'crop_offset' is known.",
    ),
    (c.data.workers >= 0, f"data.workers={c.data.workers}: 0 (none beside this process) or more."),
  ]


def _augmentation_rules(c: ConfigDict) -> list[tuple[bool, str]]:
  data, strong, kinds = c.data, c.data.strong, photometry.EVERY_VIEW
  chances = (strong.jitter_p, strong.gray_p, strong.blur_p)
  ranges = data.augment in ("unimatch", "cac", "contrastiveseg")
  lengths = (2,) if ranges else range(1, 1000)
  return [
    (
      data.augment in families.FAMILIES,
      f"data.augment={data.augment!r}: one of {', '.join(families.FAMILIES)}.",
    ),
    (
      len(data.scales) in lengths and min(data.scales) > 0 and (not ranges or _rises(data.scales)),
      f"data.scales={data.scales}: "
      + ("(lowest, highest) factor." if ranges else "one or more positive factors."),
    ),
    (_rises(data.pair_scales), f"data.pair_scales={data.pair_scales}: (lowest, highest) factor."),
    (data.base_size >= 0, f"data.base_size={data.base_size}: pixels, or 0."),
    (
      data.padding in ("mean", "black", "mean_pixel"),
      f"data.padding={data.padding!r}: 'mean', 'black' or 'mean_pixel'.",
    ),
    (
      data.labeled_photometry in kinds,
      f"data.labeled_photometry={data.labeled_photometry!r}: one of {', '.join(kinds)}.",
    ),
    (
      data.unlabeled_photometry in kinds,
      f"data.unlabeled_photometry={data.unlabeled_photometry!r}: one of {', '.join(kinds)}.",
    ),
    (
      set(strong.order) <= {"jitter", "gray", "blur"},
      f"data.strong.order={strong.order}: of 'jitter', 'gray' and 'blur'.",
    ),
    (
      len(strong.jitter) == 4 and min(strong.jitter) >= 0 and strong.jitter[3] <= 0.5,
      f"data.strong.jitter={strong.jitter}: (brightness, contrast, saturation, hue), hue at most "
      "0.5.",
    ),
    (
      all(0 <= p <= 1 for p in chances),
      f"data.strong: jitter_p, gray_p, blur_p = {chances}: probabilities.",
    ),
    (
      _rises(strong.blur_sigma),
      f"data.strong.blur_sigma={strong.blur_sigma}: (lowest, highest) in pixels, above 0.",
    ),
    (
      strong.blur_taps in (0, 3, 5),
      f"data.strong.blur_taps={strong.blur_taps}: 3 or 5, or 0 for data.strong.blur_sigma.",
    ),
  ]


def _rises(limits: Sequence[float]) -> bool:
  return len(limits) == 2 and 0 < limits[0] <= limits[1]


def _method_rules(c: ConfigDict) -> list[tuple[bool, str]]:
  m = c.method
  low, high = m.cutmix_area if len(m.cutmix_area) == 2 else (0, 0)
  quirks = _quirks(c)
  return [
    (m.networks > 0, f"method.networks={m.networks}: at least 1."),
    (m.weight >= 0, f"method.weight={m.weight}: 0 or more."),
    (m.weight_ramp_steps >= 0, f"method.weight_ramp_steps={m.weight_ramp_steps}: 0 or more."),
    (
      m.cutmix_partner in ("different_image", "same_image"),
      f"method.cutmix_partner={m.cutmix_partner!r}: 'different_image' or 'same_image'.",
    ),
    (m.cutmix_boxes > 0, f"method.cutmix_boxes={m.cutmix_boxes}: at least 1."),
    (
      0 < low <= high <= 1,
      f"method.cutmix_area={m.cutmix_area}: (smallest, largest) share of the picture, within 0..1.",
    ),
    (
      m.pseudo_label_bn in ("train", "batch", "eval"),
      f"method.pseudo_label_bn={m.pseudo_label_bn!r}: 'train', 'batch' or 'eval'.",
    ),
    (
      m.supervised_loss in ("ce", "ohem"),
      f"method.supervised_loss={m.supervised_loss!r}: 'ce' or 'ohem'.",
    ),
    (
      m.loss_group >= 0 and _falls_into_groups(c),
      f"method.loss_group={m.loss_group}: 0, or a divisor of the {c.train.batch_labeled} labeled "
      "pictures of a batch (of a part of it, where train.accumulate cuts it), such that the "
      f"{c.train.batch_unlabeled} unlabeled ones fall into as many groups.",
    ),
    (0 < m.ohem_threshold <= 1, f"method.ohem_threshold={m.ohem_threshold}: a probability."),
    (
      0 <= m.ohem_kept_fraction <= 1,
      f"method.ohem_kept_fraction={m.ohem_kept_fraction}: a share, 0 to 1.",
    ),
    (
      not quirks or not set(m.compat) - set(quirks),
      f"method.compat={m.compat}: method.name={m.name!r} knows {', '.join(quirks)}.",
    ),
  ]


def _falls_into_groups(c: ConfigDict) -> bool:
  labeled, unlabeled = (
    b // max(c.train.accumulate, 1) for b in (c.train.batch_labeled, c.train.batch_unlabeled)
  )
  k = c.method.loss_group
  if not k or labeled % k:
    return not k
  return c.method.name != "cps" or unlabeled % (labeled // k) == 0


def _run_rules(c: ConfigDict) -> list[tuple[bool, str]]:
  e, window, stride = c.eval, tuple(c.eval.window), tuple(c.eval.stride)
  batches = (c.train.batch_labeled, c.train.batch_unlabeled)
  parts, k = c.train.accumulate, c.train.bn_group
  return [
    (
      tuple(c.profile_steps) == ()
      or (len(c.profile_steps) == 2 and 0 <= c.profile_steps[0] <= c.profile_steps[1]),
      f"profile_steps={c.profile_steps}: (first, last), counted from 0, or ().",
    ),
    (
      not c.profile_steps or c.profile_steps[-1] < max(c.train.steps, 1),
      f"profile_steps={c.profile_steps}: below train.steps={c.train.steps}.",
    ),
    (0 <= c.seed < 2**32, f"seed={c.seed}: 0 or more, below 2**32."),
    (
      c.optimizer.learning_rate >= 0,
      f"optimizer.learning_rate={c.optimizer.learning_rate}: 0 or up.",
    ),
    (c.optimizer.power >= 0, f"optimizer.power={c.optimizer.power}: 0 or more."),
    (
      0 <= c.optimizer.momentum < 1,
      f"optimizer.momentum={c.optimizer.momentum}: 0 or more, below 1.",
    ),
    (
      c.optimizer.weight_decay >= 0,
      f"optimizer.weight_decay={c.optimizer.weight_decay}: 0 or more.",
    ),
    (
      c.optimizer.decayed in ("kernels", "all"),
      f"optimizer.decayed={c.optimizer.decayed!r}: 'kernels' or 'all'.",
    ),
    (
      c.optimizer.head_multiplier > 0,
      f"optimizer.head_multiplier={c.optimizer.head_multiplier}: above 0.",
    ),
    (c.train.steps > 0, f"train.steps={c.train.steps}: at least 1."),
    (c.train.log_every > 0, f"train.log_every={c.train.log_every}: at least 1."),
    (
      parts > 0 and not any(b % parts for b in batches),
      f"train.accumulate={parts}: 1, or a divisor of the batches {batches}.",
    ),
    (
      k >= 0 and not (k and any(b // max(parts, 1) % k for b in batches)),
      f"train.bn_group={k}: 0, or a divisor of the batches {batches} (of their parts, where "
      "train.accumulate cuts them).",
    ),
    (c.train.batch_labeled > 0, f"train.batch_labeled={c.train.batch_labeled}: at least 1."),
    (c.train.batch_unlabeled > 0, f"train.batch_unlabeled={c.train.batch_unlabeled}: at least 1."),
    (e.every >= 0, f"eval.every={e.every}: steps, or 0 for the end only."),
    (e.mode in ("slide", "whole"), f"eval.mode={e.mode!r}: 'slide' or 'whole'."),
    (e.batch > 0, f"eval.batch={e.batch}: at least 1."),
    (e.pictures >= 0, f"eval.pictures={e.pictures}: 0 or more."),
    (len(window) == 2 and min(window) > 0, f"eval.window={window}: (height, width)."),
    (
      len(stride) == 2 and all(0 <= s <= w for s, w in zip(stride, window)),
      f"eval.stride={stride}: (down, right), each at most its side of the window {window}; 0 is "
      "2/3 of it.",
    ),
    (
      e.network == "mean" or (e.network.isdigit() and int(e.network) < c.method.networks),
      f"eval.network={e.network!r}: 0 to {c.method.networks - 1}, or 'mean'.",
    ),
    (c.checkpoint.every >= 0, f"checkpoint.every={c.checkpoint.every}: steps, or 0."),
    (c.checkpoint.keep > 0, f"checkpoint.keep={c.checkpoint.keep}: at least 1."),
  ]


def check_dataset(config: ConfigDict, dataset: Dataset) -> None:
  """Raises ConfigError where the config does not fit the data set."""
  channels = dataset.info.channels
  if len(config.data.mean) != channels:
    raise ConfigError(
      f"{dataset.info.name} has pictures of {channels} channels, data.mean and data.std have "
      f"{len(config.data.mean)}: give one number per channel, e.g. "
      f'--config.data.mean="{(0.5,) * channels}" --config.data.std="{(0.5,) * channels}".'
    )
  kinds = {config.data.labeled_photometry, config.data.unlabeled_photometry}
  if "strong" in _reads(config):
    kinds.add("strong views")
  if channels != 3 and kinds - {"none", "brightness"}:
    raise ConfigError(
      f"{dataset.info.name} has pictures of {channels} channels, and {', '.join(sorted(kinds))} "
      "change the colors of RGB: set data.labeled_photometry and data.unlabeled_photometry to "
      "'none', and choose a method without strong views."
    )
