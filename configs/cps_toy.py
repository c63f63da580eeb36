"""The embedded default: CPS + CutMix with two tiny networks on the toy city; or another method.

    python -m semiseg_jax.main --config=configs/cps_toy.py --workdir=runs/cps_toy
    python -m semiseg_jax.main --config=configs/cps_toy.py:method=mean_teacher --workdir=runs/mt

The data set is made when it is missing.  Minutes on two CPU cores.
Arguments: ratio=1_16|1_8|1_4|1_2, method=cps_cutmix|cps|supervised|mean_teacher|cutmix_seg|
advsemiseg|pixel_contrast|pixel_contrast_memory|self_training|fixmatch|fixmatch_average|unimatch|
unimatch_v2|cpc|gct|prevmatch|st_plus_plus.
"""

from ml_collections import ConfigDict

from configs import presets
from semiseg_jax.config import schema

METHODS = (
  *presets.METHODS,
  "advsemiseg",
  "pixel_contrast",
  "pixel_contrast_memory",
  "self_training",
  "st_plus_plus",
  "gct",
  "prevmatch",
  *presets.WEAK_TO_STRONG,
)


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_16", presets.RATIOS),
    method=presets.Choice("cps_cutmix", METHODS),
  )
  c = schema.default()
  c.name = f"{a.method}_toy_{a.ratio}"

  c.data.root = "data/toy_city"
  c.data.prepare = "toy_city"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (64, 64)
  c.data.scales = (0.75, 1.0, 1.5)
  c.data.workers = 0

  c.model.backbone = "tiny"
  c.model.output_stride = 8
  c.model.deeplabv3plus.aspp_width = 32
  c.model.deeplabv3plus.aspp_rates = (1, 2, 3)
  c.model.deeplabv3plus.low_width = 8
  c.model.deeplabv3plus.decoder_width = 24
  c.model.deeplabv3plus.decoder_convs = 1

  c.optimizer.learning_rate = 0.1
  c.optimizer.weight_decay = 3e-3
  _choose_method(c, a.method)

  c.train.steps = 1500
  c.train.batch_labeled = 4
  c.train.batch_unlabeled = 4

  c.eval.every = 500
  c.eval.mode = "whole"

  c.checkpoint.every = 500
  c.runtime.cpu_xla_flags = "--xla_backend_optimization_level=1"
  return c


def _choose_method(c: ConfigDict, method: str) -> None:
  """Sets the method, its starts and sizes fitted to small pictures and a short run."""
  if method == "advsemiseg":
    presets.adversarial(c)
    c.method.advsemiseg.semi_start = 500
    c.method.advsemiseg.widths = (16, 32, 64, 64)
  elif method in presets.METHODS:
    # From scratch, early pseudo labels are noise: lambda is ramped up.
    presets.choose_method(c, method, plain=1.0, mixed=1.0, taught=10.0, ramp_steps=200)
  elif method in (*presets.WEAK_TO_STRONG, "prevmatch"):
    presets.weak_to_strong(c, method)
    if method == "prevmatch":
      c.method.prevmatch.every = 100
    c.method.weight_ramp_steps = 200
    c.optimizer.learning_rate *= 2  # their losses are halved
    if c.eval.stack == "teacher":
      c.method[c.method.name].decay = 0.99  # an average of 250 steps is behind in a short run
  elif method in ("self_training", "st_plus_plus"):
    presets.self_training(c, ranked=method == "st_plus_plus")
  elif method == "gct":
    c.method.name, c.method.weight, c.method.weight_ramp_steps = "gct", 10.0, 200
    c.method.gct.widths = (16, 32, 64)
  else:
    presets.contrast(c)
    c.model.projection.width = 32
    o = c.method.pixel_contrast
    o.max_samples, o.max_views, o.warmup_steps = 256, 8, 200
    if method == "pixel_contrast_memory":
      o.memory = 100
