"""CPS on CamVid (11 classes, 480x360) with MobileNetV2 and its ImageNet weights.

    python -m data_prep.pretrained --source mobilenet_v2.npz --backbone mobilenet_v2 \\
        --out data/weights/mobilenet_v2
    python -m semiseg_jax.main --config=configs/cps_camvid.py --workdir=runs/camvid

At half size and with a second validation set, for two cores and comparisons: configs/camvid.py.

Arguments: ratio=1_16|1_8|1_4|1_2, backbone=mobilenet_v2|efficientnet_lite0 or another,
method=cps_cutmix|supervised|unimatch or any other of configs/methods.py,
add=no|pixel_contrast|pixel_contrast_memory: on top of it.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.models import network


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    backbone=presets.Choice("mobilenet_v2", tuple(network.BACKBONES)),
    method=methods.argument(),
    add=presets.ADDED,
  )
  c = schema.default()
  c.name = f"{a.method}_camvid_{a.ratio}_{a.backbone}"

  c.data.root = "data/camvid"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (320, 320)

  c.optimizer.learning_rate = 0.01
  c.optimizer.weight_decay = 4e-4

  c.train.steps = 4000

  c.eval.every = 1000
  c.eval.mode = "whole"

  c.checkpoint.every = 1000

  networks.fit(c, a.backbone)
  methods.choose(c, a.method, methods.Task(cutmix=1.5, stuff=tuple(range(8)), cutout=62), a.add)
  return c
