"""Mean teacher on PASCAL VOC 2012 as in PixelSSL, 8 + 8 crops of 321x321, DeepLabv2.

    python -m semiseg_jax.main --config=configs/mean_teacher_voc.py:ratio=1_8 \\
        --workdir=runs/mean_teacher --config.data.root=data/voc \\
        --config.model.pretrained=data/weights/resnet101

Published mIoU (val, weights of COCO, pictures with a short side of 321): 63.11 / 67.65 / 69.27 /
72.04 at 1/16, 1/8, 1/4, 1/2; supervised 61.24 / 65.60 / 67.87 / 71.96.  Not reproduced here yet.

Logits are compared, with a weight that ramps up over three epochs.  What differs: labeled and
unlabeled pictures have batch statistics of their own, pictures are scaled by a factor that gives
the published sizes at VOC's usual 500x375, and padding is ignored instead of being background.
`--config.eval.stack=teacher` scores the teacher; both are of interest.  The other published mean
teacher, the baseline of the CPS authors, is `configs/cps_voc.py:method=mean_teacher`.

Arguments: ratio=1_16|1_8|1_4|1_2, method=mean_teacher|supervised, pixels=valid|all: with all of
them ignored pixels stay in the mean of the cross entropy and padding is compared, as in PixelSSL.
"""

from ml_collections import ConfigDict

from configs import augmentations, presets
from semiseg_jax.config import schema

# Pictures of the longer list (8 of them a step), epochs.
EPOCHS = {"1_16": (9920, 20), "1_8": (9259, 20), "1_4": (7937, 30), "1_2": (5292, 40)}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("mean_teacher"),
    pixels=presets.Choice("valid", ("valid", "all")),
  )
  c = schema.default()
  pictures, epochs = EPOCHS[a.ratio]
  c.name = f"mean_teacher_voc_{a.ratio}" + "_all_pixels" * (a.pixels == "all")

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (321, 321)
  augmentations.unimatch(c)
  c.data.scales = (0.53, 2.13)

  c.model.backbone = "resnet101"
  c.model.output_stride = 16
  c.model.head = "deeplabv2"
  c.model.pretrained = "data/weights/resnet101"

  c.method.name = "mean_teacher"
  c.method.networks = 1
  c.method.weight = 1.0
  c.method.weight_ramp_steps = 3 * (pictures // 8)
  c.method.mean_teacher.consistency = "logit_mse"
  if a.pixels == "all":
    c.method.mean_teacher.ce_mean = "all_pixels"
    c.method.compat = ("consistency_padding",)

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.train.steps = epochs * (pictures // 8)

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
