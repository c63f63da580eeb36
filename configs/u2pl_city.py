"""U2PL on Cityscapes as published (CVPR 2022), 16 + 16 crops of 769x769, R101.

    python -m semiseg_jax.main --config=configs/u2pl_city.py:ratio=1_8 --workdir=runs/u2pl \\
        --config.data.root=data/cityscapes --config.data.labeled=u2pl_372.txt \\
        --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU with CutMix (val, sliding window): 70.30 / 74.37 / 76.47 / 79.05 at 186, 372, 744,
1488 labels (1/16, 1/8, 1/4, 1/2).  Not reproduced here yet.

The authors have lists of their own; `labeled_1_8` is that of CPS where the data set has it.  What
differs: the shares of unreliable pixels fall every step and not every epoch, hard pixels and
percentiles are those of the whole batch.

Arguments: ratio=1_16|1_8|1_4|1_2, method=u2pl|supervised, quirks=no|yes: those of the released code
(COMPAT of semiseg_jax/methods/u2pl.py), its hard pixels and percentiles of the 2 pictures of a GPU
and its weight of the contrast; shares still fall every step.
And protocol=NAME: val is scored as published, by u2pl_city or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets, protocols
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 200, 8, 2
UNLABELED = {"1_16": 2789, "1_8": 2603, "1_4": 2231, "1_2": 1487}  # an epoch is one pass


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("u2pl"),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  epoch = presets.steps_of_an_epoch(UNLABELED[a.ratio], GPUS, PER_GPU)
  c.name = f"u2pl_city_{a.ratio}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (769, 769)
  augmentations.u2pl(c)
  c.data.workers = 8

  networks.choose(c.model, "u2pl", 101)
  c.model.deeplabv3plus.auxiliary = True
  c.model.pretrained = "data/weights/resnet101_v1s"

  presets.u2pl(c)
  c.method.u2pl.copied_steps = epoch
  c.method.supervised_loss = "ohem"
  c.method.ohem_kept_fraction = 100_000 / (PER_GPU * 769 * 769)
  if a.quirks:
    presets.u2pl_as_released(c, GPUS, PER_GPU)

  c.optimizer.learning_rate = 0.01
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"

  c.train.batch_labeled = c.train.batch_unlabeled = GPUS * PER_GPU
  c.train.steps = EPOCHS * epoch

  c.eval.every = 4000
  c.eval.window = (769, 769)
  c.eval.stride = (513, 513)
  if a.method == "supervised":
    presets.supervised(c)
  protocols.choose(c, a.protocol)
  return c
