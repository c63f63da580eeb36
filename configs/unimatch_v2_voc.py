"""UniMatch V2 and its FixMatch on PASCAL VOC 2012 as published (2025), 16 + 16 crops of 518x518.

    python -m semiseg_jax.main --config=configs/unimatch_v2_voc.py:ratio=366 --workdir=runs/v2 \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/dinov2_small

Published mIoU of UniMatch V2 (val, averaged teacher, best epoch) at 92 to 1464, small 79.0 / 85.5 /
85.9 / 86.7 / 87.8, base 86.3 / 87.9 / 88.9 / 90.0 / 90.8, large 86.4 / 87.6 / 90.3 / 91.1 / 91.2.
Not reproduced here yet.

The lists are those of UniMatch's authors (`labeled_92`, ...).  What differs: the learning rate
follows its schedule, where the release lags one step behind.  `--config.eval.stack=` scores the
student.  DINOv3 is not in the paper: the same recipe with crops of 512x512, 32 x 32 patches.

Arguments: ratio=92|183|366|732|1464, method=unimatch_v2|fixmatch_average,
backbone=dinov2_small|dinov2_base|dinov2_large|dinov3_small (or _small_plus, _base, _large,
_huge_plus), published=no|yes: partners, means and the pictures without dropout are those among the
4 pictures of a GPU.
"""

from ml_collections import ConfigDict

from configs import presets
from configs.unimatch_voc import UNLABELED
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 60, 4, 4
DPT = {  # channels while fusing, of the levels before
  "dinov2_small": (64, (48, 96, 192, 384)),
  "dinov2_base": (128, (96, 192, 384, 768)),
  "dinov2_large": (256, (256, 512, 1024, 1024)),
}
DPT |= {  # of the DINOv2 of that width; `huge_plus` as DINOv2's giant, which takes its width
  "dinov3_small": DPT["dinov2_small"],
  "dinov3_small_plus": DPT["dinov2_small"],
  "dinov3_base": DPT["dinov2_base"],
  "dinov3_large": DPT["dinov2_large"],
  "dinov3_huge_plus": (384, (1280, 1280, 1280, 1280)),
}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", ("92", "183", "366", "732", "1464")),
    method=presets.Choice("unimatch_v2", ("unimatch_v2", "fixmatch_average")),
    backbone=presets.Choice("dinov2_small", tuple(DPT)),
    published=False,
  )
  c = schema.default()
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_published" * a.published

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  patch, side = (16, 512) if a.backbone.startswith("dinov3") else (14, 518)
  c.data.crop = (side, side)
  presets.augment_unimatch(c)

  c.model.backbone = a.backbone
  c.model.output_stride = patch
  c.model.head = "dpt"
  c.model.dpt.width, c.model.dpt.level_widths = DPT[a.backbone]
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.weak_to_strong(c, a.method)
  if a.published:
    c.method.loss_group = PER_GPU

  c.optimizer.name = "adamw"
  c.optimizer.learning_rate = 5e-6
  c.optimizer.head_multiplier = 40.0
  c.optimizer.weight_decay = 0.01
  c.optimizer.decayed = "all"

  c.train.batch_labeled = c.train.batch_unlabeled = GPUS * PER_GPU
  c.train.steps = EPOCHS * presets.steps_of_an_epoch(UNLABELED[a.ratio], GPUS, PER_GPU)

  c.eval.every = 4000
  c.eval.mode = "whole"
  return c
