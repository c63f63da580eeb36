"""Shared parts of the configs: recipes, and the arguments behind the colon of `--config=FILE.py:`.

Every key and its default is in semiseg_jax/config/schema.py.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError

RATIOS = ("1_16", "1_8", "1_4", "1_2")


@dataclasses.dataclass(frozen=True)
class Choice:
  """An argument that is one of several texts."""

  default: str
  possible: tuple[str, ...]


def arguments(arg: str | None, **declared: Choice | bool) -> Any:
  """Reads the text behind the colon of `--config=FILE.py:key=value,key=value`.

  Args:
    arg: the text.
    **declared: key -> its default and possible values; a bool is written yes or no.

  Returns:
    An object with an attribute for each key, a text or a bool.

  Raises:
    ConfigError: all keys that were not declared and values that are not possible, with those that
      are.
  """
  values: dict[str, Any] = {
    key: kind if isinstance(kind, bool) else kind.default for key, kind in declared.items()
  }
  faults = []
  for item in filter(None, (arg or "").split(",")):
    key, equals, value = item.partition("=")
    if not equals or key not in declared:
      faults.append(f"argument {item!r}: write key=value with {', '.join(declared)}.")
      continue
    kind = declared[key]
    possible = ("yes", "no") if isinstance(kind, bool) else kind.possible
    if value not in possible:
      faults.append(f"argument {key}={value!r}: one of {', '.join(possible)}.")
      continue
    values[key] = value == "yes" if isinstance(kind, bool) else value
  if faults:
    raise ConfigError(" ".join(faults))
  return SimpleNamespace(**values)


def cutmix(c: ConfigDict, weight: float) -> None:
  """CPS with CutMix: lambda changes with it."""
  c.method.cutmix = True
  c.method.weight = weight


METHODS = ("supervised", "cps", "cps_cutmix", "mean_teacher", "cutmix_seg", "cpc")


def choose_method(
  c: ConfigDict,
  method: str,
  *,
  plain: float,
  mixed: float,
  taught: float = 100.0,
  ramp_steps: int = 0,
) -> None:
  """Sets a method of METHODS with the lambdas of the data set.

  Mean teacher is as in the CPS authors' baseline (lambda 100, on all pictures), but that the
  average follows each update; CPC has its lambda.  CutMix-Seg has its authors' loss, mask and
  teacher (lambda 1), with the optimizer of the config.  Keys that the method does not read stay at
  their defaults: others are refused.
  """
  if method == "supervised":
    c.method.name = "supervised"
    c.method.networks = 1
    return
  c.method.weight_ramp_steps = ramp_steps
  if method == "cps":
    c.method.weight = plain
  elif method == "cps_cutmix":
    cutmix(c, mixed)
  elif method == "mean_teacher":
    c.method.name, c.method.networks, c.method.weight = "mean_teacher", 1, taught
    c.method.mean_teacher.on = "all"
  elif method == "cpc":
    c.method.name, c.method.weight = "cpc", taught
  else:
    cutmix_seg(c)


def cutmix_seg(c: ConfigDict) -> None:
  """CutMix-Seg: a mean teacher in evaluation mode, one box of half the picture."""
  c.method.name, c.method.networks = "mean_teacher", 1
  cutmix(c, 1.0)
  c.method.cutmix_boxes, c.method.cutmix_area = 1, (0.5, 0.5)
  o = c.method.mean_teacher
  o.consistency, o.teacher_bn, o.threshold = "prob_sse", "ema_buffers", 0.97
  c.eval.stack = "teacher"


WEAK_TO_STRONG = ("fixmatch", "fixmatch_average", "unimatch", "unimatch_v2")


def weak_to_strong(c: ConfigDict, method: str) -> None:
  """A method of WEAK_TO_STRONG with the published lambda and threshold 0.95.

  'fixmatch_average' is the FixMatch of UniMatch V2's code.  The two of that code take the reversed
  batch for partners, and their teachers are scored.
  """
  c.method.name, c.method.networks, c.method.weight = method, 1, 1.0
  if method == "fixmatch_average":
    c.method.name, c.method.fixmatch.teacher = "fixmatch", "average"
  if method in ("fixmatch_average", "unimatch_v2"):
    c.method.box_partner, c.eval.stack = "reversed", "teacher"


def unimatch_as_released(c: ConfigDict, per_gpu: int) -> None:
  """Keeps what the released code of UniMatch does: pairs of one picture, means of each GPU."""
  c.method.box_partner, c.method.loss_group = "same_image", per_gpu


def steps_of_an_epoch(pictures: int, gpus: int, per_gpu: int) -> int:
  """Returns the steps of UniMatch's epoch: each GPU has its share, rounded up, in whole batches."""
  return -(-pictures // gpus) // per_gpu


def self_training(c: ConfigDict, ranked: bool) -> None:
  """ST of Yang et al., CVPR 2022, or with ranked pictures ST++: one network, every pixel kept."""
  c.method.name, c.method.networks, c.method.weight = "self_training", 1, 1.0
  c.method.self_training.ranked = ranked


def self_training_as_published(c: ConfigDict, labeled: int, unlabeled: int, epochs: int) -> None:
  """Labels, mixed batches and steps of ST++'s code, with `method.self_training.ranked` chosen.

  The teacher goes through the labeled pictures, twice as many times where they are below 200; a
  student through the unlabeled ones and as many repeated labeled ones.

  Args:
    c: with the method chosen.
    labeled: pictures.
    unlabeled: pictures.
    epochs: of each network.
  """
  batch = c.train.batch_labeled + c.train.batch_unlabeled
  steps = lambda u: epochs * ((-(-u // labeled) * labeled + u) // batch)
  o = c.method.self_training
  o.scales, o.flip, o.cutout_p, o.mixed = (0.5, 0.75, 1.0, 1.5, 2.0), True, 0.5, True
  o.teacher_batch = batch
  teacher = epochs * ((2 * labeled if labeled < 200 else labeled) // batch)
  o.steps = (teacher, steps(unlabeled // 2)) if o.ranked else (teacher,)
  c.train.steps = steps(unlabeled)


def contrast(c: ConfigDict) -> None:
  """Pixel contrast with the projection head of its authors, the published 2 pictures a group."""
  c.method.name, c.method.networks = "pixel_contrast", 1
  c.method.loss_group = 2
  c.model.projection.kind = "convmlp"


def adversarial(c: ConfigDict) -> None:
  """AdvSemiSeg: one network; its loss weights are its own."""
  c.method.name, c.method.networks = "advsemiseg", 1


def hrnet_of_paddle(c: ConfigDict) -> None:
  """HRNet with the FCN head in PaddleSeg's conventions, for weights that were trained with it."""
  c.model.hrnet.padding, c.model.hrnet.align_corners = "same", False
  c.model.fcn.align_corners = False
  c.model.compat = ("biased_variance",)


def augment_unimatch(c: ConfigDict, base_size: int = 0) -> None:
  """The crops of UniMatch, UniMatch V2 and FixMatch; with a base size those of ST++."""
  c.data.augment, c.data.scales, c.data.base_size = "unimatch", (0.5, 2.0), base_size
  c.data.padding = "black"


def augment_cac(c: ConfigDict, base_size: int) -> None:
  """The crops of CAC (base size 400 for VOC, 2048 for Cityscapes) and CCT."""
  c.data.augment, c.data.scales, c.data.base_size = "cac", (0.5, 2.0), base_size
  c.data.padding = "mean_pixel"


def strong_cac(c: ConfigDict) -> None:
  """What CAC does to both crops of a pair."""
  strong = c.data.strong
  strong.order, strong.jitter = ("blur", "jitter", "gray"), (0.4, 0.4, 0.4, 0.1)
  strong.blur_taps = 5


def augment_advsemiseg(c: ConfigDict, published: bool) -> None:
  """The crops of AdvSemiSeg: as released (neither scaled nor mirrored) or as its paper says."""
  c.data.augment = "advsemiseg"
  c.data.scales = (1.0,) if published else tuple(k / 10 for k in range(5, 17))
  c.data.flip = 0.0 if published else 0.5
  c.data.mean = tuple(m / 255 for m in (122.67891434, 116.66876762, 104.00698793))
  c.data.std = (1 / 255,) * 3


def augment_contrastiveseg(c: ConfigDict) -> None:
  """The crops of ContrastiveSeg's authors, with the statistics of RGB on RGB."""
  c.data.augment, c.data.scales = "contrastiveseg", (0.5, 2.0)
  c.data.labeled_photometry = "brightness"


def augment_paddleseg(c: ConfigDict) -> None:
  """The crops of PaddleSeg and its ports: (x - 0.5) / 0.5, so that its padding 127.5 is 0."""
  c.data.augment, c.data.scales = "paddleseg", tuple(k / 4 for k in range(2, 9))
  c.data.mean = c.data.std = (0.5, 0.5, 0.5)
  c.data.labeled_photometry = "distortion"


def ratio_list(ratio: str) -> str:
  """'1_8' -> the list name 'labeled_1_8'."""
  return f"labeled_{ratio}"


def cps_as_released(c: ConfigDict, method: str) -> None:
  """Keeps what the released code of CPS does and its authors did not intend.

  Args:
    c: with `method` chosen.
    method: of METHODS.

  Raises:
    ConfigError: a method that the released code does not have.
  """
  if method not in ("cps", "cps_cutmix"):
    raise ConfigError(
      f"argument published=yes exists for method=cps and method=cps_cutmix; the released code has "
      f"no {method}: leave it out, or set single keys (method.compat, data.compat)."
    )
  c.data.compat = ("crop_offset",)
  c.method.compat = ("pseudo_label_padding",)
  if c.method.cutmix:
    c.method.cutmix_partner = "same_image"
