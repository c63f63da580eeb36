"""The recipe of own.py that fits a data set and a device; every choice has its reason.

`fit` sets keys in a config and returns what it set.  The numbers are rules of thumb: those of the
recipes of CamVid and the toy city where these have some (crops, passes, ramp, rates), else what a
laptop does in about an hour or a GPU in a day.
"""

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import methods, networks
from semiseg_jax import machine
from semiseg_jax.arguments import command
from semiseg_jax.data import opening
from semiseg_jax.data import options as data
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models.pretrained import METADATA_FILE
from semiseg_jax.models.weight_sources import how_to_get
from semiseg_jax.options import flat
from semiseg_jax.training.derived import Derived
from semiseg_jax.wording import counted

_UNIT = 32  # crops are multiples of it: the output strides of all networks divide it


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a budget allows.

  backbone: where none is named.  crop: longest side.  batch: pictures of each kind.  passes: over
  the larger list.  steps: (fewest, most).  whole: pixels of a picture that is evaluated whole.
  widths: channels of DeepLabv3+'s branches and of its last convolutions.
  """

  backbone: str
  crop: int
  batch: int
  passes: int
  steps: tuple[int, int]
  whole: int
  widths: tuple[int, int]


LIMITS = {
  "laptop": Limits("mobilenet_v2", 256, 4, 20, (400, 1500), 1 << 20, (128, 96)),
  "gpu": Limits("resnet50_v1s", 512, 8, 100, (4000, 40_000), 1 << 21, (256, 256)),
}


@dataclasses.dataclass(frozen=True)
class Facts:
  """What of a data set matters to a recipe.

  name, classes (their number), channels; labeled, unlabeled, evaluated: numbers of pictures;
  sizes, evaluated_sizes: (H, W) of the training pictures and of those; mean, std: of its pictures
  as shares of 255, () where the data set does not say.
  """

  name: str
  classes: int
  channels: int
  labeled: int
  unlabeled: int
  evaluated: int
  sizes: tuple[tuple[int, int], ...]
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  evaluated_sizes: tuple[tuple[int, int], ...] = ()

  @property
  def short(self) -> int:
    """The median of the shorter sides."""
    return int(statistics.median(min(size) for size in self.sizes))

  @property
  def largest(self) -> tuple[int, int]:
    """The size of most pixels, of training or evaluation."""
    return max(self.sizes + self.evaluated_sizes, key=lambda size: size[0] * size[1])


def facts(info: DatasetInfo, train: str, labeled: str, val: str) -> Facts:
  """Reads them from the metadata of a data set.

  Args:
    info: of the data set.
    train, labeled, val: names of lists.

  Raises:
    ConfigError: a list of training pictures that the data set does not have.
  """
  for name in (train, labeled):
    if not info.lists.get(name):
      raise ConfigError(
        f"{info.name} has no list {name!r}, only {', '.join(info.lists) or 'none'}: choose ratio=, "
        f"or make it with `{command('data_prep.splits')} --add`."
      )
  ids, others = set(info.lists[train]), set(info.lists.get(val, ()))
  return Facts(
    name=info.name,
    classes=len(info.classes),
    channels=info.channels,
    labeled=len(info.lists[labeled]),
    unlabeled=len(ids - set(info.lists[labeled])),
    evaluated=len(others),
    sizes=tuple(size for id_, size in zip(info.ids, info.sizes) if id_ in ids),
    mean=tuple(getattr(info, "mean", None) or ()),
    std=tuple(getattr(info, "std", None) or ()),
    evaluated_sizes=tuple(size for id_, size in zip(info.ids, info.sizes) if id_ in others),
  )


def read(c: ConfigDict) -> Facts:
  """Returns the facts of the data set and the lists of `c.data`.

  Raises:
    DataError: the data set cannot be opened.
    ConfigError: it lacks a list.
  """
  info = opening.open_dataset(
    c.data, option="root=FOLDER behind the colon of --config, or --config.data.root=FOLDER"
  ).info
  return facts(info, c.data.train, c.data.labeled, c.data.val)


def device() -> tuple[str, str]:
  """Returns the budget of this machine, and why."""
  if machine.only_cpu():
    return "laptop", f"no accelerator, {counted(os.cpu_count() or 1, 'core')}"
  return "gpu", "this machine has an accelerator"


def fit(
  c: ConfigDict, f: Facts, *, method: str, added: str, backbone: str, weights: str, budget: str
) -> list[Derived]:
  """Completes a config that has its lists.

  Args:
    c: the config.
    f: of its data set.
    method, added: as `methods.choose` takes them.
    backbone: '' = that of the budget.
    weights: 'auto', 'none' or a folder.
    budget: of LIMITS, or 'auto': that of this machine.

  Returns:
    The keys that were derived.

  Raises:
    ConfigError: weights that are not there.
  """
  found, why = device() if budget == "auto" else (budget, "given")
  limits, set_ = LIMITS[found], _Setter(c)
  name, size = backbone or limits.backbone, _crop(f, limits)
  c.data.crop = c.eval.window = size
  networks.fit(c, name)
  if not backbone:
    set_("model.backbone", name, f"budget={found} ({why})")
  if c.model.head == "deeplabv3plus":
    why = {"laptop": "at 256 the last convolutions are four fifths of all arithmetic"}
    for key, width in zip(("aspp_width", "decoder_width"), limits.widths):
      set_(f"model.deeplabv3plus.{key}", width, why.get(found, "as published"))
  set_("data.crop", tuple(c.data.crop), _crop_reason(f, limits, found))
  _padding(set_, f, c.data.crop)
  pretrained = _weights(set_, f, name, weights)
  _normalization(set_, f, name, pretrained)
  _length(set_, f, limits, found, pretrained)
  if c.optimizer.name == "sgd":
    rate, start = (0.01, "pretrained") if pretrained else (0.02, "fresh")
    rate *= c.train.batch_labeled / 8
    set_("optimizer.learning_rate", rate, f"of a {start} backbone, in proportion to the batch")
    set_("optimizer.weight_decay", 4e-4, "as for CamVid and VOC")
  set_("optimizer.schedule", "poly", "down to 0 at the last step, which is known")
  _evaluation(set_, f, limits)
  _method(set_, f, method, added, pretrained)
  return set_.made


class _Setter:
  """Sets keys and keeps them with their reasons."""

  def __init__(self, c: ConfigDict):
    self.c, self.made = c, []

  def __call__(self, key: str, value: object, reason: str) -> None:
    self.c.update_from_flattened_dict({key: value})
    self.made.append(Derived(key, value, reason))


def _crop(f: Facts, limits: Limits) -> tuple[int, int]:
  side = min(limits.crop, f.short // _UNIT * _UNIT)
  return (max(_UNIT, side),) * 2


def _crop_reason(f: Facts, limits: Limits, budget: str) -> str:
  h, w = f.largest
  reason = f"shorter sides have {f.short} pixels in the median (largest {h} high x {w} wide), "
  reason += f"budget={budget} at most {limits.crop}"
  times = f.short / limits.crop
  if times >= 4:
    reason += (
      f"; pictures are {times:.0f} crops wide: shrink them before the preparation if what is "
      "labeled is larger than a crop"
    )
  return reason


def _padding(set_: _Setter, f: Facts, crop: Sequence[int]) -> None:
  small = sum(h < crop[0] or w < crop[1] for h, w in f.sizes)
  set_(
    "data.padding",
    "mean",
    f"{small} of {counted(len(f.sizes), 'picture')} smaller than a crop, others when scaled down; "
    "what is around them is 0 after normalization and has no label",
  )


def _weights(set_: _Setter, f: Facts, backbone: str, weights: str) -> bool:
  """Sets model.pretrained; whether there is one."""
  if weights == "none" or (weights == "auto" and (f.channels != 3 or backbone == "tiny")):
    reason = "weights=none" if weights == "none" else f"none for {f.channels} channels"
    set_("model.pretrained", "", "none for this backbone" if backbone == "tiny" else reason)
    return False
  folder = f"data/weights/{backbone}" if weights == "auto" else weights
  if not (pathlib.Path(folder) / METADATA_FILE).is_file():
    raise ConfigError(
      f"{folder} holds no weights of {backbone}. {how_to_get(backbone, folder)}\nOr train from "
      "scratch with weights=none: that takes more steps and labels for the same score. "
      "weights=FOLDER names another folder."
    )
  set_("model.pretrained", folder, "these weights are there")
  return True


def _normalization(set_: _Setter, f: Facts, backbone: str, pretrained: bool) -> None:
  if pretrained and backbone.startswith("efficientnet_lite"):
    mean, std, why = (127 / 255,) * 3, (128 / 255,) * 3, "what the weights were trained with"
  elif pretrained and f.channels == len(data.IMAGENET_MEAN):
    mean, std, why = data.IMAGENET_MEAN, data.IMAGENET_STD, "what the weights were trained with"
  elif len(f.mean) == len(f.std) == f.channels:
    mean, std, why = f.mean, f.std, "of the pictures of this data set"
  elif f.channels == 3:
    mean, std, why = data.IMAGENET_MEAN, data.IMAGENET_STD, "of photos: the data set says none"
  else:
    mean, std = (0.5,) * f.channels, (0.25,) * f.channels
    why = f"the middle of the range, for {f.channels} channels: the data set says none"
  set_("data.mean", mean, why)
  set_("data.std", std, why)


def _length(set_: _Setter, f: Facts, limits: Limits, budget: str, pretrained: bool) -> None:
  """Batch and steps."""
  larger = ("labeled", f.labeled)
  for kind, count in (("labeled", f.labeled), ("unlabeled", f.unlabeled or f.labeled)):
    batch = limits.batch
    while batch > 2 and batch > count:
      batch //= 2
    few = f", {counted(count, 'picture')}" if batch < limits.batch else ""
    set_(f"train.batch_{kind}", batch, f"budget={budget}{few}")
    if count > larger[1]:  # whatever the method, so that a baseline has as many steps
      larger = (kind, count)
  times, why = (1, "") if pretrained else (2, ", twice from scratch")
  least, most = (times * limit for limit in limits.steps)
  wanted = times * limits.passes * larger[1] // limits.batch
  set_(
    "train.steps",
    min(max(wanted, least), most) // 100 * 100,
    f"{times * limits.passes} passes over {larger[1]} {larger[0]} pictures are {wanted}; "
    f"budget={budget} takes {least} to {most}{why}",
  )
  set_("checkpoint.every", set_.c.train.steps // 10, "at most a tenth of the steps is lost")


def _evaluation(set_: _Setter, f: Facts, limits: Limits) -> None:
  if not f.evaluated:
    set_("data.val", "", "the data set has no list 'val': nothing is evaluated; --holdout 0.1")
    return
  h, w = f.largest
  fits = h * w <= limits.whole
  reason = f"the largest picture is {h} high x {w} wide, {'at most' if fits else 'more than'} "
  set_(
    "eval.mode",
    "whole" if fits else "slide",
    f"{reason}{limits.whole / 1e6:.1f} million pixels",
  )
  every = max(1, set_.c.train.steps // 5)
  set_("eval.every", every, f"five evaluations of {counted(f.evaluated, 'picture')}")
  if not fits:
    window = tuple(set_.c.data.crop)
    set_("eval.window", window, "what the network sees in training")


def _method(set_: _Setter, f: Facts, method: str, added: str, pretrained: bool) -> None:
  """The method, with the weight and the rise of its unlabeled loss."""
  c = set_.c
  # From scratch: 1 and a rise over 2 of 15 steps, as on the toy city.
  task = methods.Task(ramp_steps=0 if pretrained else 2 * c.train.steps // 15)
  if not pretrained:
    task = dataclasses.replace(task, cps=1.0, distance=10.0)
  methods.choose(c, method, task, added)
  values = flat(c.to_dict())
  set_.made = [
    one if values[one.key] == one.value else one._replace(value=values[one.key], reason=f"{method}")
    for one in set_.made
  ]
  start = "a pretrained backbone" if pretrained else "from scratch pseudo labels are noise at first"
  for key in ("method.weight", "method.weight_ramp_steps"):
    if key in contract.reads(c) and method != "supervised":
      set_(key, values[key], f"{method}, {start}")
  if "unlabeled" in contract.sources(c) and not f.unlabeled:
    set_("data.unlabeled", "all", "every picture has a label: they teach without it as well")
  if method == "u2pl" and f.classes <= c.method.u2pl.low_rank + 1:
    set_(
      "method.u2pl.low_rank", 1, f"{counted(f.classes, 'class', 'classes')}: no class comes fourth"
    )
