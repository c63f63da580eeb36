"""CamVid at half size (11 classes, 240x180): any method, at equal steps and equal labeled batches.

Arguments: ratio=1_16|1_8|1_4|1_2|full, method=cps_cutmix|supervised|unimatch or any other of
configs/methods.py, backbone=mobilenet_v2|efficientnet_lite0 or another,
add=no|pixel_contrast|pixel_contrast_memory: on top of it.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.models import network


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", (*presets.RATIOS, "full")),
    backbone=presets.Choice("mobilenet_v2", tuple(network.BACKBONES)),
    method=methods.argument(),
    add=presets.ADDED,
  )
  c = schema.default()
  c.name = f"{a.method}_camvid_{a.ratio}_{a.backbone}"

  c.data.root = "data/camvid_half"
  c.data.train = "train_rest"
  c.data.labeled = c.data.train if a.ratio == "full" else presets.ratio_list(a.ratio)
  c.data.crop = (128, 128)

  c.optimizer.learning_rate = 0.005
  c.optimizer.weight_decay = 4e-4

  c.train.steps = 3000
  c.train.batch_labeled = c.train.batch_unlabeled = 4

  c.eval.mode = "whole"

  c.checkpoint.every = 500

  networks.fit(c, a.backbone)
  c.model.deeplabv3plus.aspp_width = c.model.deeplabv3plus.decoder_width = 64
  methods.choose(c, a.method, methods.Task(cutmix=1.5, stuff=tuple(range(8)), cutout=25), a.add)
  return c
