"""U2PL on PASCAL VOC 2012 as published (CVPR 2022), 16 + 16 crops of 513x513, R101.

    python -m semiseg_jax.main --config=configs/u2pl_voc.py:ratio=366 --workdir=runs/u2pl \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU with CutMix (val, crops of 513, which hold whole pictures): 67.98 / 69.15 / 73.66 /
76.16 / 79.49 at 92 to 1464; on the authors' own "blender" lists, whose labels are cleaner than
those of CPS, 77.21 / 79.01 / 79.30 / 80.50 at 662, 1323, 2646, 5291.  Not reproduced here yet.

All lists are those of the authors (`labeled_92`, ...).  What differs: the shares of unreliable
pixels fall every step and not every epoch, percentiles are those of the whole batch, and whole
pictures are evaluated.

Arguments: ratio=92|183|366|732|1464|662|1323|2646|5291, method=u2pl|supervised, quirks=no|yes:
those of the released code (COMPAT of semiseg_jax/methods/u2pl.py), its percentiles of the 4
pictures of a GPU and its weight of the contrast; shares still fall every step, and whole pictures
are evaluated.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 80, 4, 4
UNLABELED = {  # pictures; an epoch is one pass over them
  "92": 10_490,
  "183": 10_399,
  "366": 10_216,
  "732": 9850,
  "1464": 9118,
  "662": 9920,
  "1323": 9259,
  "2646": 7936,
  "5291": 5291,
}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", tuple(UNLABELED)),
    method=presets.method("u2pl"),
    quirks=False,
  )
  c = schema.default()
  epoch = presets.steps_of_an_epoch(UNLABELED[a.ratio], GPUS, PER_GPU)
  c.name = f"u2pl_voc_{a.ratio}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (513, 513)
  augmentations.u2pl(c)

  networks.choose(c.model, "u2pl", 101)
  c.model.pretrained = "data/weights/resnet101_v1s"

  presets.u2pl(c)
  c.method.u2pl.supervised_steps = c.method.u2pl.copied_steps = epoch
  if a.quirks:
    presets.u2pl_as_released(c, GPUS, PER_GPU)

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.train.batch_labeled = c.train.batch_unlabeled = GPUS * PER_GPU
  c.train.steps = EPOCHS * epoch

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
