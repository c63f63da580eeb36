"""Shared parts of the configs: recipes, and the arguments behind the colon of `--config=FILE.py:`.

Every key and its default is in semiseg_jax/config/schema.py.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from configs import augmentations, networks
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import auxiliary_decoders
from semiseg_jax.methods.cac import COMPAT as COMPAT_OF_CAC
from semiseg_jax.methods.s4gan import COMPAT as COMPAT_OF_S4GAN
from semiseg_jax.methods.u2pl import COMPAT as COMPAT_OF_U2PL

RATIOS = ("1_16", "1_8", "1_4", "1_2")


@dataclasses.dataclass(frozen=True)
class Choice:
  """An argument that is one of several texts."""

  default: str
  possible: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Text:
  """An argument of its own kind, such as a folder; `possible`: all that it can be, empty: any."""

  default: str
  possible: tuple[str, ...] = ()


def arguments(arg: str | None, **declared: Choice | Text | bool) -> Any:
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
  faults, given = [], set()
  for item in filter(None, (arg or "").split(",")):
    key, equals, value = item.partition("=")
    if not equals or key not in declared:
      near = f" Write {key}=VALUE." if key in declared else _near(key, declared)
      faults.append(f"argument {item!r}: write key=value with {', '.join(declared)}.{near}")
      continue
    if key in given:
      faults.append(f"argument {key} is given twice: {arg!r}.")
    given.add(key)
    kind = declared[key]
    possible = ("yes", "no") if isinstance(kind, bool) else kind.possible
    if isinstance(kind, Text) and value and not possible:
      values[key] = value
      continue
    if value not in possible:
      near = _near(value, possible)
      allowed = f"one of {', '.join(possible)}" if possible else "a text is missing"
      faults.append(f"argument {key}={value!r}: {allowed}.{near}")
      continue
    values[key] = value == "yes" if isinstance(kind, bool) else value
  if faults:
    raise ConfigError(" ".join(faults))
  return SimpleNamespace(**values)


def given(arg: str | None) -> frozenset[str]:
  """Returns the keys that the text of `arguments` has."""
  return frozenset(item.partition("=")[0] for item in (arg or "").split(",") if item)


def _near(text: str, possible: Iterable[str]) -> str:
  near = difflib.get_close_matches(text, list(possible), n=1)
  return f" Did you mean {near[0]!r}?" if near else ""


# The argument `add`: a term on top of the method, see methods.add.
ADDED = Choice("no", ("no", "pixel_contrast", "pixel_contrast_memory"))


def method(name: str) -> Choice:
  """Returns the argument `method` of a file with the recipe of one method: it, or the baseline."""
  return Choice(name, (name, "supervised"))


def supervised(c: ConfigDict, double: bool = False) -> None:
  """The baseline of a recipe that is complete: one network on the labeled pictures alone.

  List, crops, network without a projection, optimizer, steps and loss on labeled pictures stay; of
  quirks those that are keys of other blocks than `method`.  Authors often train it for fewer steps.

  Args:
    c: complete; what the baseline does not read gets its default.
    double: its batch has as many labeled pictures as the recipe has of both kinds.
  """
  auxiliary = c.method.u2pl.weight_auxiliary
  c.method.name, c.method.networks, c.method.add = "supervised", 1, ()
  c.model.projection.kind, c.eval.stack = "none", ""
  if double:
    c.train.batch_labeled += c.train.batch_unlabeled
  entries = schema.table()
  c.update_from_flattened_dict({path: entries[path].default for path in rules.unread(c)})
  if c.model.deeplabv3plus.auxiliary:
    c.method.supervised.weight_auxiliary = auxiliary
  if not c.name.startswith("supervised"):
    c.name = f"supervised_{c.name}"


def cutmix(c: ConfigDict, weight: float) -> None:
  """CPS with CutMix: lambda changes with it."""
  c.method.cutmix = True
  c.method.weight = weight


def cutmix_seg(c: ConfigDict) -> None:
  """CutMix-Seg: a mean teacher in evaluation mode, one box of half the picture."""
  c.method.name, c.method.networks = "mean_teacher", 1
  cutmix(c, 1.0)
  c.method.cutmix_boxes, c.method.cutmix_area = 1, (0.5, 0.5)
  o = c.method.mean_teacher
  o.consistency, o.teacher_bn, o.threshold = "prob_sse", "ema_buffers", 0.97
  c.eval.stack = "teacher"


def cutmix_seg_published(c: ConfigDict, color: bool, quirks: bool) -> None:
  """CutMix-Seg with its authors' network, optimizer and length, whatever the data set.

  Args:
    color: strong views of the student, as in arXiv 2110.04487.
    quirks: the head sums two of its four branches, as released.
  """
  networks.choose(c.model, "advsemiseg", 101)
  c.model.pretrained = "data/weights/resnet101"
  if quirks:
    c.model.deeplabv2.summed = 2
  cutmix_seg(c)
  if color:
    c.method.mean_teacher.strong = True
    c.data.strong.order, c.data.strong.jitter = ("jitter", "gray"), (0.4, 0.4, 0.4, 0.1)
  o = c.optimizer
  o.name, o.schedule, o.weight_decay, o.frozen_norms = "adam", "constant", 0.0, True
  o.head_multiplier = 10.0
  c.train.steps, c.train.frozen_statistics = 40_000, True
  c.eval.every, c.eval.mode, c.eval.whole = 4000, "whole", "as_is"


def weak_to_strong(c: ConfigDict, method: str) -> None:
  """A method from weak to strong views with the published lambda and threshold 0.95.

  'fixmatch_average' is the FixMatch of UniMatch V2's code.  The two of that code take the reversed
  batch for partners, and their teachers are scored.
  """
  c.method.name, c.method.networks, c.method.weight = method, 1, 1.0
  if method == "fixmatch_average":
    c.method.name, c.method.fixmatch.teacher = "fixmatch", "average"
  if method in ("fixmatch_average", "unimatch_v2"):
    c.method.box_partner, c.eval.stack = "reversed", "teacher"


def unimatch_as_released(c: ConfigDict, method: str, per_gpu: int, average: str) -> None:
  """Keeps what the released code of UniMatch does: pairs of one picture, means of each GPU.

  Args:
    c: with `method` chosen.
    method: of methods.METHODS.
    per_gpu: pictures of each kind on a GPU.
    average: the config file of this data set whose methods have an averaged teacher.

  Raises:
    ConfigError: a method that this code does not have.
  """
  if method == "supervised":
    raise ConfigError(_without_quirks("quirks=yes", ("unimatch", "fixmatch")))
  if method not in ("unimatch", "fixmatch"):
    raise ConfigError(
      f"argument quirks=yes exists for method=unimatch and method=fixmatch; this code has no "
      f"{method}: leave it out, or take configs/{average}."
    )
  c.method.box_partner, c.method.loss_group = "same_image", per_gpu


def _without_quirks(argument: str, methods: tuple[str, ...]) -> str:
  """Why the baseline of a recipe has no quirks."""
  return (
    f"argument {argument} is of method={' and method='.join(methods)}: of how they learn from "
    "unlabeled pictures, which method=supervised does not read; leave it out, or set single keys "
    "(method.loss_group, data.compat)."
  )


def steps_of_an_epoch(pictures: int, gpus: int, per_gpu: int) -> int:
  """Returns the steps of UniMatch's epoch: each GPU has its share, rounded up, in whole batches."""
  return -(-pictures // gpus) // per_gpu


UNIMATCH = ("unimatch", "fixmatch", "fixmatch_average", "unimatch_v2", "supervised")
# The arguments of UniMatch V2's recipes beside `ratio`.
UNIMATCH_V2 = {
  "method": Choice("unimatch_v2", ("unimatch_v2", "fixmatch_average", "supervised")),
  "add": ADDED,
  "backbone": Choice(
    "dinov2_small",
    (
      *(f"dinov2_{size}" for size in ("small", "base", "large")),
      *(f"dinov3_{size}" for size in ("small", "small_plus", "base", "large", "huge_plus")),
    ),
  ),
  "quirks": False,
}


def unimatch_v2(
  c: ConfigDict, a: Any, gpus: int, per_gpu: int, epochs: int, unlabeled: int
) -> None:
  """The recipe of UniMatch V2, the same on every data set but for what is given here.

  Args:
    c: with lists and crop of the data set.
    a: the arguments, those of UNIMATCH_V2 among them; quirks: means and the pictures without
      dropout are those of a GPU.
    gpus, per_gpu: their number, and the pictures of each kind on one.
    epochs: passes over the unlabeled pictures.
    unlabeled: pictures.
  """
  augmentations.unimatch(c)
  networks.dpt(c, a.backbone)
  weak_to_strong(c, a.method)
  if a.quirks:
    c.method.loss_group = per_gpu

  c.train.batch_labeled = c.train.batch_unlabeled = gpus * per_gpu
  c.train.steps = epochs * steps_of_an_epoch(unlabeled, gpus, per_gpu)

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"


def cross_consistency(c: ConfigDict, share: float = 1.0) -> None:
  """CCT with its lambda and the published numbers of decoders, or a share of each, at least one.

  Their logits are like those of the head, which must have been chosen: never negative in PSPNet's.
  """
  c.method.name, c.method.networks, c.method.weight = "cct", 1, 30.0
  for kind in auxiliary_decoders.KINDS:
    c.method.cct[kind] = max(1, round(share * c.method.cct[kind]))
  c.method.cct.last_relu = c.model.head == "pspnet"


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


def image_discriminator(c: ConfigDict) -> None:
  """s4GAN: one network; its loss weights are its own."""
  c.method.name, c.method.networks = "s4gan", 1


def s4gan_as_published(c: ConfigDict, released: bool) -> None:
  """s4GAN with its authors' network, optimizer and length, whatever the data set.

  Args:
    c: with its data.
    released: with the quirks of the code, and the two branches that its head sums.
  """
  networks.choose(c.model, "advsemiseg", 101)
  c.model.pretrained = "data/weights/resnet101"
  image_discriminator(c)
  optimizer_of_deeplabv2(c, repeats=3 if released else 1)
  if released:
    c.method.compat, c.model.deeplabv2.summed = COMPAT_OF_S4GAN, 2
  c.train.steps, c.train.batch_labeled, c.train.batch_unlabeled = 40_000, 8, 8
  c.eval.every, c.eval.mode, c.eval.whole = 5000, "whole", "as_is"


def s4gan_baseline(c: ConfigDict) -> None:
  """The supervised baseline of s4GAN's authors, whose batches are larger."""
  supervised(c)
  c.train.batch_labeled = 10


def optimizer_of_deeplabv2(c: ConfigDict, repeats: int) -> None:
  """SGD of AdvSemiSeg and s4GAN; `repeats`: updates of a parameter of the backbone in a step."""
  c.optimizer.learning_rate = repeats * 2.5e-4
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0 / repeats
  c.optimizer.frozen_norms = True


def hrnet_of_paddle(c: ConfigDict) -> None:
  """HRNet with the FCN head in PaddleSeg's conventions, for weights that were trained with it."""
  c.model.hrnet.padding, c.model.hrnet.align_corners = "same", False
  c.model.fcn.align_corners = False
  c.model.compat = ("biased_variance",)


def cac(c: ConfigDict) -> None:
  """CAC with its published constants and strong views."""
  c.method.name, c.method.networks, c.method.weight = "cac", 1, 0.1
  augmentations.strong_cac(c)


def cac_as_published(c: ConfigDict, a: Any, epoch: int, gpus: int) -> None:
  """The method of CAC's recipes: itself from the sixth epoch on, or its supervised baseline.

  Args:
    c: with CAC's network.
    a: the arguments `method`, `ratio` and `quirks`.
    epoch: steps.
    gpus: with quirks the means are those of each one's pictures.
  """
  if a.method == "cac":
    cac(c)
    c.method.cac.start = 5 * epoch
    c.method.compat = COMPAT_OF_CAC if a.quirks else ()
    if a.ratio == "full":
      c.data.unlabeled = "all"
  else:
    c.method.name, c.method.networks = "supervised", 1
    c.model.projection.update(kind="none", width=schema.default().model.projection.width)
  if a.quirks:
    c.method.loss_group = c.train.batch_labeled // gpus


def pseudoseg(c: ConfigDict) -> None:
  """PseudoSeg with the published lambda and its strong views."""
  c.method.name, c.method.networks, c.method.weight = "pseudoseg", 1, 1.0
  augmentations.strong_pseudoseg(c)


def u2pl(c: ConfigDict) -> None:
  """U2PL with its published constants; its teacher is scored."""
  c.method.name, c.method.networks, c.method.weight = "u2pl", 1, 1.0
  c.model.projection.kind, c.eval.stack = "u2pl", "teacher"


def u2pl_as_released(c: ConfigDict, gpus: int, per_gpu: int) -> None:
  """Keeps what the released code of U2PL does: its quirks, and lambda_c = 1 over the GPUs."""
  c.method.compat = COMPAT_OF_U2PL
  c.method.u2pl.weight_contrast, c.method.loss_group = 1 / gpus, per_gpu


def reco(c: ConfigDict) -> None:
  """ReCo with its published constants; its teacher is scored."""
  c.method.name, c.method.networks, c.method.weight = "reco", 1, 1.0
  c.model.projection.kind, c.eval.stack = "reco", "teacher"
  strong = c.data.strong
  strong.order, strong.jitter = ("jitter", "blur"), (0.25, 0.25, 0.25, 0.25)
  strong.blur_sigma = (0.15, 1.15)


def mlmt(c: ConfigDict, epoch: int, epochs: int) -> None:
  """MLMT with its published constants and views, and the optimizer of its authors.

  Args:
    c: the config.
    epoch: steps of a pass over the labeled pictures.
    epochs: of the run; lambda is 0 in the first tenth and its first epoch after, then rises
      over a half of them.
  """
  c.method.name, c.method.networks, c.method.weight = "mlmt", 1, 1.0
  o = c.method.mlmt
  o.epoch, o.start, c.method.weight_ramp_steps = epoch, epochs * epoch // 10, epochs * epoch // 2

  c.data.augment = "unimatch"  # whose Pillow resizes, as torchvision does
  strong = c.data.strong
  strong.order, strong.jitter = ("jitter", "blur"), (0.4, 0.4, 0.4, 0.1)
  strong.jitter_p = strong.blur_p = 1.0

  c.optimizer.learning_rate, c.optimizer.nesterov = 0.03, True
  c.optimizer.schedule, c.optimizer.final = "cosine", 1e-4 / 0.03
  c.optimizer.weight_decay, c.optimizer.decayed = 1e-5, "all"


def mlmt_baseline(c: ConfigDict) -> None:
  """The supervised baseline of a recipe of MLMT: a classifier of labeled pictures, its average."""
  c.method.weight = 0.0
  entries = schema.table()
  c.update_from_flattened_dict({path: entries[path].default for path in rules.unread(c)})
  c.name = f"supervised_{c.name}"


def ratio_list(ratio: str) -> str:
  """'1_8' -> the list name 'labeled_1_8'."""
  return f"labeled_{ratio}"


def cps_as_released(c: ConfigDict, method: str) -> None:
  """Keeps what the released code of CPS does and its authors did not intend.

  Args:
    c: with `method` and network chosen.
    method: of methods.METHODS.

  Raises:
    ConfigError: a method or backbone that the released code does not have.
  """
  backbones = ("resnet50_v1s", "resnet101_v1s")
  if c.model.backbone not in backbones:
    raise ConfigError(
      f"published=yes exists for backbone={' and backbone='.join(backbones)}; the released "
      f"code has no {c.model.backbone}: leave it out, or set method.compat and data.compat."
    )
  if method == "supervised":
    raise ConfigError(_without_quirks("published=yes", ("cps", "cps_cutmix")))
  if method not in ("cps", "cps_cutmix"):
    raise ConfigError(
      f"argument published=yes exists for method=cps and method=cps_cutmix; the released code has "
      f"no {method}: leave it out, set single keys (method.compat, data.compat), or take the "
      "recipe of its authors, such as configs/unimatch_voc.py or configs/gct_voc.py."
    )
  c.data.compat = ("crop_offset",)
  c.method.compat = ("pseudo_label_padding",)
  if c.method.cutmix:
    c.method.cutmix_partner = "same_image"
