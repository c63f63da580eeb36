"""Every method with settings under which each of its parts takes part within a few steps."""

import numpy as np

from semiseg_jax.config import schema
from semiseg_jax.training import experiment
from tests import small_network
from tests.methods import example_method

CLASSES, ROWS, SIZE = 4, 4, (32, 32)
STEPS = 4
WIDTH = 8  # of embeddings
_CONTRAST = {
  "name": "pixel_contrast",
  "networks": 1,
  "loss_group": 2,
  "pixel_contrast.max_samples": 40,
  "pixel_contrast.max_views": 6,
  "pixel_contrast.warmup_steps": 1,
}
EMBEDDED = {"cac", "pixel_contrast", "reco", "u2pl"}  # methods on embeddings
# Cases with all changes of a strong view.  That of the others is blurred by three taps: jitter and
# a Gaussian double the time in which such a step compiles.
STRONG = {"fixmatch", "self_training, mixed", "pseudoseg"}
# Title -> changed keys of `config.method`.
CASES = {
  "supervised": {"name": "supervised", "networks": 1},
  "supervised, two": {"name": "supervised", "networks": 2, "supervised_loss": "focal+dice"},
  "cps": {"name": "cps", "networks": 2},
  "cps, cutmix": {"name": "cps", "networks": 2, "cutmix": True},
  "cps, unlike": {
    "name": "cps",
    "networks": 2,
    "cutmix": True,
    "weight_ramp_steps": 2,
    "supervised_loss": "ce+lovasz",
  },
  "cps, contrast": _CONTRAST
  | {
    "name": "cps",
    "networks": 2,
    "add": ("pixel_contrast",),
    "pixel_contrast.memory": 20,
    "pixel_contrast.on": "all",
  },
  "mean_teacher": {"name": "mean_teacher", "networks": 2, "weight_ramp_steps": 2},
  "mean_teacher, cutmix": {
    "name": "mean_teacher",
    "networks": 1,
    "cutmix": True,
    "mean_teacher.teacher_bn": "ema_buffers",
    "mean_teacher.consistency": "prob_sse",
    "mean_teacher.threshold": 0.4,
  },
  "advsemiseg": {
    "name": "advsemiseg",
    "networks": 2,
    "advsemiseg.adversarial_start": 1,
    "advsemiseg.semi_start": 2,
    "advsemiseg.widths": (4, 4, 4, 4),
  },
  "s4gan": {
    "name": "s4gan",
    "networks": 2,
    "s4gan.self_training_start": 1,
    "s4gan.threshold": 0.5,
    "s4gan.widths": (4, 4, 4, 4),
  },
  "cpc": {"name": "cpc", "networks": 3, "weight_ramp_steps": 2},
  "gct": {"name": "gct", "networks": 2, "weight_ramp_steps": 2, "gct.widths": (4, 6)},
  "cct": {
    "name": "cct",
    "networks": 1,
    "weight": 30.0,
    "weight_ramp_steps": 2,
    "cct.last_relu": False,
    "cct.feature_drop": 1,
    "cct.feature_noise": 1,
    "cct.dropout": 2,
    "cct.cutout": 1,
  },
  "pixel_contrast": _CONTRAST,
  "pixel_contrast, memory": _CONTRAST | {"pixel_contrast.memory": 20, "networks": 2},
  "self_training": {"name": "self_training", "networks": 2, "self_training.threshold": 0.4},
  "self_training, mixed": {
    "name": "self_training",
    "networks": 1,
    "loss_group": 2,
    "self_training.mixed": True,
    "self_training.cutout_p": 0.7,
  },
  "fixmatch": {"name": "fixmatch", "networks": 2, "threshold": 0.3},
  "fixmatch, average": {
    "name": "fixmatch",
    "networks": 1,
    "threshold": 0.3,
    "fixmatch.teacher": "average",
    "box_partner": "reversed",
    "loss_group": 2,
  },
  "unimatch": {"name": "unimatch", "networks": 2, "threshold": 0.3, "weight_ramp_steps": 2},
  "unimatch, contrast": _CONTRAST
  | {
    "name": "unimatch",
    "networks": 1,
    "threshold": 0.3,
    "loss_group": 0,
    "add": ("pixel_contrast",),
    "pixel_contrast.on": "all",
    "pixel_contrast.group": 2,
    "pixel_contrast.warmup_steps": 0,
  },
  "unimatch, unlike": {
    "name": "unimatch",
    "networks": 2,
    "threshold": 0.3,
    "joint_statistics": False,
    "box_partner": "same_image",
  },
  "unimatch_v2": {
    "name": "unimatch_v2",
    "networks": 2,
    "threshold": 0.3,
    "box_partner": "reversed",
  },
  "prevmatch": {
    "name": "prevmatch",
    "networks": 2,
    "threshold": 0.3,
    "prevmatch.queue": 3,
    "prevmatch.every": 1,
    "prevmatch.models": 2,
    "prevmatch.threshold_previous": 0.27,
  },
  "prevmatch, confidence": {
    "name": "prevmatch",
    "networks": 1,
    "threshold": 0.3,
    "prevmatch.queue": 2,
    "prevmatch.every": 2,
    "prevmatch.models": 2,
    "prevmatch.weighting": "confidence",
  },
  "pseudoseg": {
    "name": "pseudoseg",
    "networks": 2,
    "weight_ramp_steps": 2,
    "pseudoseg.width": 3,
    "pseudoseg.cutout": 12,
  },
  "pseudoseg, stored": {
    "name": "pseudoseg",
    "networks": 1,
    "loss_group": 2,
    "pseudoseg.width": 3,
    "pseudoseg.background": False,
    "pseudoseg.image_labels": "stored",
  },
  "u2pl": {
    "name": "u2pl",
    "networks": 2,
    "u2pl.supervised_steps": 1,
    "u2pl.copied_steps": 1,
    "u2pl.mix_p": 1.0,
    "u2pl.probability": 0.2,
    "u2pl.low_rank": 2,
    "u2pl.anchors": 6,
    "u2pl.negatives": 5,
    "u2pl.memory": (30, 20),
    "u2pl.entering": 9,
  },
  "reco": {
    "name": "reco",
    "networks": 1,
    "weight_ramp_steps": 2,
    "reco.weak": 0.3,
    "reco.strong": 0.4,
    "reco.queries": 6,
    "reco.negatives": 5,
  },
  "mlmt": {"name": "mlmt", "networks": 2, "mlmt.start": 1, "weight_ramp_steps": 2},
  "mlmt, supervised": {"name": "mlmt", "networks": 2, "weight": 0.0},
  "mlmt, unlike": {"name": "mlmt", "networks": 2, "compat": ("teacher_on_labeled",)},
  "cac": {
    "name": "cac",
    "networks": 2,
    "loss_group": 2,
    "cac.start": 1,
    "cac.threshold": 0.3,
    "cac.negatives": 30,
    "cac.block": 100,
  },
  "example": {"name": "example", "networks": 2},
}


def config(case):
  c = schema.default()
  c.method.update_from_flattened_dict(CASES[case])
  c.train.batch_labeled = c.train.batch_unlabeled = ROWS
  c.train.steps, c.optimizer.learning_rate = STEPS, 0.05
  if case not in STRONG:
    c.data.strong.order, c.data.strong.blur_taps = ("blur",), 3
  return c


def build(case, mesh):
  """The method, its optimizer and its first state, on the small network."""
  c = config(case)
  method = small_network.method(
    c,
    classes=CLASSES,
    projection=WIDTH if EMBEDDED & {c.method.name, *c.method.add} else 0,
    modules={"example": example_method} if c.method.name == "example" else None,
    mesh=mesh,
    unlike=case.endswith("unlike"),
  )
  optimizer = experiment.make_optimizer(c, method)
  return method, optimizer, experiment.initial_state(c, method, optimizer)


def batch(method, t):
  """Batch t of noise with ignored and padded pixels."""
  names = [stream.name for stream in method.streams]
  found = small_network.batch(names, size=SIZE, rows=ROWS, classes=CLASSES, seed=t)
  for stream in found.values():
    stream["label"][:, : t + 3] = 255
    stream["valid"][:, 2] -= 4
    del stream["row"]
  for stream in method.streams:
    if stream.targets:
      found[stream.name] |= stored(found[stream.name]["label"], t)
    if stream.view == "pair":
      found[stream.name] |= second_crop(found[stream.name])
  return found


def second_crop(fields):
  """The fields that a pair has beside those of its first crop, of other pictures."""
  second = {f"{k}_2": fields[k][::-1] for k in ("image", "label", "valid")}
  geometry = [(8, -8, *SIZE, 1, 0), (0, 0, 24, SIZE[1], 0, 1), (-16, 8, *SIZE, 1, 1)]
  rows = [geometry[i % 3] for i in range(len(fields["image"]))]
  return {**second, "geometry": np.array(rows, np.int32)}


def stored(label, seed):
  """Targets with their confidence, of which some have none."""
  rng = np.random.default_rng(seed)
  target = rng.integers(0, CLASSES, label.shape, dtype=np.uint8)
  target[label == 255] = 255
  return {"target": target, "confidence": rng.integers(0, 256, label.shape, dtype=np.uint8)}
