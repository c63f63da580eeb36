"""GCT on PASCAL VOC 2012 as in PixelSSL, 8 + 8 pictures, ResNet-101 with DeepLabv2 or PSPNet.

    python -m semiseg_jax.main --config=configs/gct_voc.py:ratio=1_8 --workdir=runs/gct \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101

Published mIoU (val, weights of COCO) at 1/16, 1/8, 1/4, 1/2: DeepLabv2, on pictures with a short
side of 321, 65.18 / 70.57 / 71.53 / 72.45; PSPNet 64.36 / 70.69 / 72.84 / 73.97.  Not reproduced
here yet.

DeepLabv2 learns from crops of 321x321 and PSPNet from crops of 513x513; the consistency rises over
3 and 5 epochs.  Both learning rates are those of four GPUs.  What differs: pictures are scaled by a
factor that gives the published sizes at VOC's usual 500x375, and padding is ignored instead of
being background.

Arguments: ratio=1_16|1_8|1_4|1_2, method=gct|supervised, head=deeplabv2|pspnet, quirks=no|yes: with
those of the released code (COMPAT of semiseg_jax/methods/gct.py), and ignored pixels stay in the
mean of the cross entropy; the rest of the above still differs.
"""

from ml_collections import ConfigDict

from configs import augmentations, presets
from semiseg_jax.config import schema
from semiseg_jax.methods import gct

PICTURES = {"1_16": 9920, "1_8": 9259, "1_4": 7937, "1_2": 5292}  # of the longer list
# Head -> epochs by ratio, those over which lambda rises, side of a crop, scales.
RECIPES = {
  "deeplabv2": ((20, 20, 30, 40), 3, 321, (0.53, 2.13)),
  "pspnet": ((45, 45, 55, 80), 5, 513, (0.68, 2.74)),
}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("gct"),
    head=presets.Choice("deeplabv2", tuple(RECIPES)),
    quirks=False,
  )
  c = schema.default()
  epochs, ramp, side, scales = RECIPES[a.head]
  steps = PICTURES[a.ratio] // 8  # of an epoch
  c.name = f"gct_voc_{a.ratio}_{a.head}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (side, side)
  augmentations.unimatch(c)
  c.data.scales = scales

  c.model.backbone = "resnet101"
  c.model.output_stride = 16
  c.model.head = a.head
  c.model.pretrained = "data/weights/resnet101"

  c.method.name = "gct"
  c.method.weight = 100.0
  c.method.weight_ramp_steps = ramp * steps
  c.method.gct.learning_rate = 4e-4
  if a.quirks:
    c.method.gct.ce_mean = "all_pixels"
    c.method.compat = gct.COMPAT

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.train.steps = epochs[presets.RATIOS.index(a.ratio)] * steps

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
