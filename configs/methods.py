"""The one table of methods: what each sets on top of the optimizer and schedule of a data set.

Every config file with an argument `method` takes its choices from METHODS, so that a method which
has a row here can be chosen on every data set.  A row is a function (c, task) that sets
`config.method` and, where the method asks for it, single keys of other blocks; it is called last.
The files named after a method (unimatch_voc.py, gct_voc.py, ...) hold the recipe of its authors,
with their network, crops and optimizer.
"""

import dataclasses
import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from configs import adversarial, augmentations, presets
from semiseg_jax.methods import contract, shared
from semiseg_jax.options import defaults


@dataclasses.dataclass(frozen=True)
class Task:
  """What a data set adds to the settings of a method; the defaults are those for pictures of yours.

  Attributes:
    cps, cutmix: lambda of CPS, without and with CutMix.
    distance: lambda of mean squared distances of probabilities: mean teacher, CPC, GCT.
    threshold: tau of FixMatch, UniMatch and PrevMatch; 0: every pixel teaches.
    start_steps: of CPS, lambda is 0 before them: the networks learn from labels alone first.
    ramp_steps: lambda rises over them, where its authors have no rise of their own.
    epoch: steps of a pass over the unlabeled pictures; 0: a fortieth of the run.
    stuff: classes that are no objects, for methods that tell objects from background.
    supervised_epochs: of U2PL, before unlabeled pictures take part.
    auxiliary: U2PL's network has a second classifier, on the third stage of a ResNet.
    scales: of ReCo, of unlabeled pictures once they are labeled.
    judge: of s4GAN, tau and the rate of its discriminator.
    cutout: of PseudoSeg, the side of its hole: of 512 pixels a hundred.
    tiny: a short run of the tiny network on the toy city.
  """

  cps: float = 1.5
  cutmix: float = 1.0
  distance: float = 100.0
  threshold: float = defaults(shared.WeakToStrong)["threshold"]
  start_steps: int = 0
  ramp_steps: int = 0
  epoch: int = 0
  stuff: tuple[int, ...] = (0,)
  supervised_epochs: int = 0
  auxiliary: bool = False
  scales: tuple[float, float] = (0.5, 1.5)
  judge: tuple[float, float] = (0.6, 1e-4)
  cutout: int = 100
  tiny: bool = False


def choose(c: ConfigDict, method: str, task: Task, added: str = "no") -> None:
  """Sets a method of METHODS in a config that is complete but for it.

  Args:
    c: with network, optimizer and `train.steps` of the data set.
    method: a name of METHODS.
    task: what of the data set matters to it.
    added: see `add`.
  """
  METHODS[method](c, task)
  add(c, added, task)


def add(c: ConfigDict, term: str, task: Task) -> None:
  """Puts a term on top of the method of a complete config; `presets.ADDED` has the possible ones.

  Pixel contrast takes its pools of 2 + 2 pictures, also where the losses of the method have other
  groups, and the pseudo labels of methods that make some.  Representations without unit length,
  those of U2PL and ReCo, give way to its projection, which their own losses take as well.
  """
  if term == "no":
    return
  c.name += f"_{term}"
  c.method.add = ("pixel_contrast",)
  if c.model.projection.kind in ("none", "u2pl", "reco"):
    c.model.projection.kind = "convmlp"
  o = c.method.pixel_contrast
  o.group, o.on = 2, "all" if contract.teaches(c.method.name) else "labeled"
  _contrast(c, task, memory=term == "pixel_contrast_memory")


def supervised(c: ConfigDict, task: Task) -> None:
  """The baseline, on the labeled pictures alone."""
  c.method.name, c.method.networks = "supervised", 1


def cps(c: ConfigDict, task: Task) -> None:
  """CPS; its pseudo labels teach on labeled and unlabeled pictures."""
  c.method.weight = task.cps
  c.method.weight_start, c.method.weight_ramp_steps = task.start_steps, task.ramp_steps


def cps_cutmix(c: ConfigDict, task: Task) -> None:
  """CPS with CutMix."""
  presets.cutmix(c, task.cutmix)
  c.method.weight_start, c.method.weight_ramp_steps = task.start_steps, task.ramp_steps


def mean_teacher(c: ConfigDict, task: Task) -> None:
  """The baseline of the CPS authors, on all pictures, but that the average follows each update."""
  _single(c, "mean_teacher", task.distance, task)
  c.method.mean_teacher.on = "all"


def cutmix_seg(c: ConfigDict, task: Task) -> None:
  """Loss, masks and teacher are its authors'; cutmix_seg_voc.py has their optimizer too."""
  presets.cutmix_seg(c)
  c.method.weight_ramp_steps = task.ramp_steps


def cpc(c: ConfigDict, task: Task) -> None:
  """CPC, with the lambda of mean teacher."""
  c.method.name, c.method.weight = "cpc", task.distance
  c.method.weight_ramp_steps = task.ramp_steps


def gct(c: ConfigDict, task: Task) -> None:
  """GCT as the CPS authors run it: their network and schedule, the constants of its authors."""
  c.method.name, c.method.weight = "gct", task.distance
  c.method.weight_ramp_steps = task.ramp_steps or 3 * _epoch(c, task)
  if task.tiny:
    c.method.gct.widths = (16, 32, 64)
  else:
    c.method.gct.learning_rate = 4e-4  # of four GPUs


def cct(c: ConfigDict, task: Task) -> None:
  """CCT; in a short run with a third of its decoders, a lower lambda and a slower rise.

  A network that does not fit its labeled pictures yet fits them more slowly with all of lambda.
  """
  presets.cross_consistency(c, share=1 / 3 if task.tiny else 1.0)
  c.method.weight_ramp_steps = c.train.steps // 10
  if task.tiny:
    c.method.weight, c.method.weight_ramp_steps = 10.0, 1000
  c.method.cct.background = task.stuff


def advsemiseg(c: ConfigDict, task: Task) -> None:
  """AdvSemiSeg, with lambdas of its own.

  Predictions teach from step 5000 on, after a quarter of a shorter run, a third of the toy's.
  """
  adversarial.advsemiseg(c)
  o = c.method.advsemiseg
  o.semi_start = 500 if task.tiny else min(o.semi_start, c.train.steps // 4)
  if task.tiny:
    o.widths = (16, 32, 64, 64)


def s4gan(c: ConfigDict, task: Task) -> None:
  """s4GAN, with lambdas and tau of its own; in the toy's run its labels teach late and a little.

  From scratch a third of them are wrong.
  """
  adversarial.s4gan(c)
  o = c.method.s4gan
  o.threshold, o.learning_rate = task.judge
  if task.tiny:
    o.self_training_start, o.weight_self_training = 750, 0.2
    o.widths = (16, 32, 64, 64)


def self_training(c: ConfigDict, task: Task, ranked: bool = False) -> None:
  """ST: teacher, then student; ST++ with a student of the reliable pictures between them."""
  presets.self_training(c, ranked)


def contrast_of_pixels(c: ConfigDict, task: Task, method: str) -> None:
  """U2PL or ReCo; small pools, a small branch and a small lambda in a short run."""
  (presets.u2pl if method == "u2pl" else presets.reco)(c)
  o, c.method.weight_ramp_steps = c.method[method], task.ramp_steps
  if task.tiny:
    c.model.projection.kind, c.model.projection.width = "reco", 32  # without dropout
    o.weight_contrast = 0.1
  if method == "u2pl":
    _unreliable(c, task)
    return
  o.scales = task.scales
  if task.tiny:
    # Few pixels reach 0.97 in a short run, and other hues are other classes there.
    o.queries, o.negatives, o.scales, o.strong = 64, 64, (0.75, 1.5), 0.8
    c.data.strong.jitter = (0.25, 0.25, 0.25, 0.05)


def _unreliable(c: ConfigDict, task: Task) -> None:
  """U2PL's schedule and percentiles; these are of the whole batch, however losses are grouped."""
  o, c.method.loss_group = c.method.u2pl, 0
  epoch = 50 if task.tiny else _epoch(c, task)
  o.supervised_steps, o.copied_steps = task.supervised_epochs * epoch, epoch
  resnet = c.model.head == "deeplabv3plus" and c.model.backbone.startswith("resnet")
  c.model.deeplabv3plus.auxiliary = task.auxiliary and resnet
  if task.tiny:
    # From scratch a third of the pseudo labels are wrong, and by default most of them teach.
    o.supervised_steps, c.method.weight_ramp_steps = 500, 1000
    c.method.weight, o.dropped = 0.5, 60.0
    o.high_rank, o.anchors, o.memory, o.entering = 6, 64, (1000, 1000), 200


def cac(c: ConfigDict, task: Task) -> None:
  """CAC from a sixteenth of the run on, as published, with its crops of pictures of any size."""
  augmentations.cac(c, 0)
  presets.cac(c)
  o, side = c.method.cac, max(1, c.data.crop[0] // 8)
  o.start, o.negatives = c.train.steps // 16, min(o.negatives, side * max(1, c.data.crop[1] // 8))
  c.model.projection.kind, c.model.projection.width = "cac", 128
  if task.tiny:
    c.data.scales, c.data.pair_scales = (0.75, 1.5), (0.75, 1.5)
    # From scratch early classes are often wrong, and colors tell classes there.
    c.method.weight, o.start, c.model.projection.width = 0.03, 500, 32
    c.data.strong.update(jitter=(0.25, 0.25, 0.25, 0.05), gray_p=0.0, blur_p=0.0)


def pseudoseg(c: ConfigDict, task: Task) -> None:
  """PseudoSeg; without a class that is the background where the data set has none."""
  presets.pseudoseg(c)
  c.method.weight_ramp_steps = task.ramp_steps
  o = c.method.pseudoseg
  o.background, o.cutout = task.stuff == (0,), task.cutout
  if task.tiny:
    o.cutout, o.width = 12, 32


def pixel_contrast(c: ConfigDict, task: Task, memory: bool = False) -> None:
  """Pixel contrast on the labeled pictures alone, with or without memory."""
  presets.contrast(c)
  _contrast(c, task, memory)


def _contrast(c: ConfigDict, task: Task, memory: bool) -> None:
  o = c.method.pixel_contrast
  if task.tiny:
    c.model.projection.width = 32
    o.max_samples, o.max_views, o.warmup_steps = 256, 8, 200
  else:
    o.warmup_steps = min(o.warmup_steps, c.train.steps // 4)
  if memory and task.tiny:
    o.memory = 100
  elif memory:
    o.weight, o.memory, o.max_views, o.temperature = 1.0, 5000, 1, 0.07


def weak_to_strong(c: ConfigDict, task: Task, method: str) -> None:
  """FixMatch, UniMatch and what follows them; `method` is a name of METHODS."""
  presets.weak_to_strong(c, method)
  c.method.weight_ramp_steps = task.ramp_steps
  if c.method.box_partner == "reversed" and c.method.loss_group == 1:
    c.method.loss_group = 0  # partners are found in the group
  if c.eval.stack != "teacher":  # with an averaged teacher it is the same on every data set
    c.method.threshold = task.threshold
  if c.optimizer.name == "sgd":
    # Their losses are halved: twice the rate moves as far, and half the decay pulls as much.
    c.optimizer.learning_rate *= 2
    c.optimizer.weight_decay /= 2
  if task.tiny and c.eval.stack == "teacher":
    c.method[c.method.name].decay = 0.99  # an average of 250 steps is behind in a short run


def prevmatch(c: ConfigDict, task: Task) -> None:
  """PrevMatch: UniMatch and 20 entries of the queue in a run."""
  weak_to_strong(c, task, "prevmatch")
  c.method.prevmatch.every = 100 if task.tiny else max(1, c.train.steps // 20)
  if not task.threshold:
    c.method.prevmatch.weighting = "confidence"


def _single(c: ConfigDict, name: str, weight: float, task: Task) -> None:
  c.method.name, c.method.networks = name, 1
  c.method.weight, c.method.weight_ramp_steps = weight, task.ramp_steps


def _epoch(c: ConfigDict, task: Task) -> int:
  return task.epoch or max(1, c.train.steps // 40)


METHODS: dict[str, Callable[[ConfigDict, Task], None]] = {
  "supervised": supervised,
  "cps": cps,
  "cps_cutmix": cps_cutmix,
  "mean_teacher": mean_teacher,
  "cutmix_seg": cutmix_seg,
  "cpc": cpc,
  "gct": gct,
  "cct": cct,
  "advsemiseg": advsemiseg,
  "s4gan": s4gan,
  "self_training": self_training,
  "st_plus_plus": functools.partial(self_training, ranked=True),
  "fixmatch": functools.partial(weak_to_strong, method="fixmatch"),
  "fixmatch_average": functools.partial(weak_to_strong, method="fixmatch_average"),
  "unimatch": functools.partial(weak_to_strong, method="unimatch"),
  "unimatch_v2": functools.partial(weak_to_strong, method="unimatch_v2"),
  "prevmatch": prevmatch,
  "u2pl": functools.partial(contrast_of_pixels, method="u2pl"),
  "reco": functools.partial(contrast_of_pixels, method="reco"),
  "cac": cac,
  "pseudoseg": pseudoseg,
  "pixel_contrast": pixel_contrast,
  "pixel_contrast_memory": functools.partial(pixel_contrast, memory=True),
}


COMBINED = ("cps+pixel_contrast", "unimatch+pixel_contrast")  # METHOD+TERM, for the study


def argument(default: str = "cps_cutmix") -> presets.Choice:
  """Returns the argument `method` of a config file."""
  return presets.Choice(default, tuple(METHODS))
