"""ST and ST++ on Cityscapes as published (CVPR 2022), batches of 16 crops of 721x721.

    python -m semiseg_jax.main --config=configs/self_training_city.py:ratio=1_8 --workdir=runs/st \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50

mIoU of ST++ (val, whole pictures, best epoch), R50, as iMAS quotes it: 72.7 / 73.8 at 1/8 and 1/4.
Not reproduced here yet.

What differs from the authors is said in self_training_voc.py; the lists are those of CPS.

Arguments: ratio=1_16|1_8|1_4|1_2, method=st_plus_plus|self_training|supervised,
backbone=resnet50|resnet101, quirks=no|yes: as there.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets, unimatch_city
from semiseg_jax.config import schema
from semiseg_jax.methods import self_training

EPOCHS, PICTURES, PER_GPU = 240, 2975, 4


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.Choice("st_plus_plus", ("st_plus_plus", "self_training", "supervised")),
    backbone=presets.Choice("resnet50", ("resnet50", "resnet101")),
    quirks=False,
  )
  c = schema.default()
  c.name = f"{a.method}_city_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (721, 721)
  augmentations.unimatch(c, base_size=2048)
  c.data.workers = 8

  networks.choose(c.model, "st", 50 if a.backbone == "resnet50" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.self_training(c, ranked=a.method == "st_plus_plus")
  unlabeled = unimatch_city.UNLABELED[a.ratio]
  presets.self_training_as_published(c, PICTURES - unlabeled, unlabeled, EPOCHS)
  if a.quirks:
    c.method.compat, c.train.bn_group = self_training.COMPAT, PER_GPU

  c.optimizer.learning_rate = 4e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c, double=True)
  return c
