"""CPS on Cityscapes as published (CVPR 2021), 8 + 8 crops of 800x800.

    python -m semiseg_jax.main --config=configs/cps_city.py:ratio=1_8,backbone=resnet101_v1s \\
        --workdir=runs/city --config.data.root=data/cityscapes \\
        --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU (val, sliding window, network 0), R50: CPS 69.79 / 74.39 / 76.85 / 78.64, with
CutMix 74.47 / 76.61 / 77.83 / 78.77 at 1/16, 1/8, 1/4, 1/2.  Not reproduced here yet.

The recipe that really ran: the published code divides each loss by its 8 GPUs on top of the
averaging of gradients, so its learning rate 0.02 and weight decay 1e-4 are 0.0025 and 8e-4 on mean
losses.  Never scale them by the device count.

Arguments: ratio=1_16|1_8|1_4|1_2, backbone=resnet50_v1s|resnet101_v1s|dinov2_small or another,
method=cps_cutmix|cps|supervised or any other of configs/methods.py,
add=no|pixel_contrast|pixel_contrast_memory: on top of it, published=no|yes: of cps and cps_cutmix
the defects of the released code too.
And protocol=NAME: val is scored as published, by cps_city or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets, protocols
from semiseg_jax.config import schema
from semiseg_jax.models import network

STEPS = {"1_16": 44_544, "1_8": 44_525, "1_4": 44_640, "1_2": 44_640}
STUFF = tuple(range(11))  # road to sky
EPOCHS = {"1_16": 128, "1_8": 137, "1_4": 160, "1_2": 240}  # passes over the unlabeled pictures


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    backbone=presets.Choice("resnet50_v1s", tuple(network.BACKBONES)),
    method=methods.argument(),
    add=presets.ADDED,
    published=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_city_{a.ratio}_{a.backbone}" + "_published" * a.published

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (800, 800)
  c.data.workers = 8

  c.method.supervised_loss = "ohem"
  c.method.loss_group = 1  # one image per GPU: mining and means are per image

  c.optimizer.learning_rate = 0.0025
  c.optimizer.weight_decay = 8e-4

  c.train.steps = STEPS[a.ratio]

  c.eval.every = 4000
  c.eval.window = (800, 800)
  c.eval.batch = 8

  networks.fit(c, a.backbone)
  epoch = STEPS[a.ratio] // EPOCHS[a.ratio]
  task = methods.Task(
    cps=6.0,
    cutmix=5.0,
    threshold=0.0,
    epoch=epoch,
    stuff=STUFF,
    auxiliary=True,
    scales=(1.0, 1.0),
    judge=(0.7, 1e-5),
    cutout=156,
  )
  methods.choose(c, a.method, task, a.add)
  if a.published:
    presets.cps_as_released(c, a.method)
  protocols.choose(c, a.protocol)
  return c
