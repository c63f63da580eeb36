"""Pixel contrast on CamVid with the settings of its authors' code, HRNet-W48, 16 crops of 360x480.

    python -m semiseg_jax.main --config=configs/pixel_contrast_camvid.py \\
        --workdir=runs/contrast_camvid --config.data.root=data/camvid \\
        --config.model.pretrained=data/weights/hrnet_w48

No number is published.  The authors train and count the void class as a twelfth one, unless with
memory; here it is ignored.

Arguments: ratio=full|1_16|1_8|1_4|1_2, method=pixel_contrast|supervised, memory=no|yes.
"""

from ml_collections import ConfigDict

from configs import augmentations, presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("full", ("full", *presets.RATIOS)),
    method=presets.method("pixel_contrast"),
    memory=False,
  )
  c = schema.default()
  c.name = f"pixel_contrast_camvid_{a.ratio}" + "_memory" * a.memory

  c.data.root = "data/camvid"
  c.data.labeled = "train" if a.ratio == "full" else presets.ratio_list(a.ratio)
  c.data.crop = (360, 480)
  augmentations.contrastiveseg(c)

  c.model.backbone, c.model.head = "hrnet_w48", "fcn"
  c.model.pretrained = "data/weights/hrnet_w48"

  presets.contrast(c)
  o = c.method.pixel_contrast
  o.temperature, o.warmup_steps = 0.07, 3000 if a.memory else 5000
  o.memory = 5000 if a.memory else 0

  c.optimizer.learning_rate = 0.01 if a.memory else 1e-3
  c.optimizer.weight_decay = 5e-4 if a.memory else 1e-4
  c.optimizer.decayed = "all"

  c.train.steps = 40_000 if a.memory else 30_000
  c.train.batch_labeled = 16

  c.eval.every = 1000 if a.memory else 5000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
