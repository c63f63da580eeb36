"""The embedded default: CPS + CutMix with two tiny networks on the toy city; or another method.

    python -m semiseg_jax.main --config=configs/cps_toy.py --workdir=runs/cps_toy
    python -m semiseg_jax.main --config=configs/cps_toy.py:method=mean_teacher --workdir=runs/mt

The data set is made when it is missing.  Minutes on two CPU cores.
Arguments: ratio=1_16|1_8|1_4|1_2, method=cps_cutmix|supervised|unimatch or any other of
configs/methods.py, add=no|pixel_contrast|pixel_contrast_memory: on top of it.
"""

from ml_collections import ConfigDict

from configs import methods, presets
from semiseg_jax.config import schema

METHODS = (*methods.METHODS, *methods.COMBINED)
# From scratch, early pseudo labels are noise: lambda is ramped up.
TASK = methods.Task(
  cps=1.0, cutmix=1.0, distance=10.0, ramp_steps=200, stuff=tuple(range(9)), tiny=True
)


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_16", presets.RATIOS),
    method=methods.argument(),
    add=presets.ADDED,
  )
  c = base()
  c.name = f"{a.method}_toy_{a.ratio}"

  c.data.root = "data/toy_city"
  c.data.prepare = "toy_city"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (64, 64)

  methods.choose(c, a.method, TASK, a.add)
  return c


def base() -> ConfigDict:
  """Returns what the toy data sets have in common: network, optimizer, batch and evaluation."""
  c = schema.default()
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

  c.train.steps = 1500
  c.train.batch_labeled = 4
  c.train.batch_unlabeled = 4

  c.eval.every = 500
  c.eval.mode = "whole"

  c.checkpoint.every = 500
  c.runtime.cpu_xla_flags = "--xla_backend_optimization_level=1"
  return c
