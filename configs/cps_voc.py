"""CPS on PASCAL VOC 2012 (10,582 training pictures) as published, 8 + 8 crops of 512x512.

    python -m semiseg_jax.main --config=configs/cps_voc.py:ratio=1_8 --workdir=runs/voc \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU (val, network 0), R50: CPS 68.21 / 73.20 / 74.24 / 75.91, with CutMix 71.98 / 73.67 /
74.90 / 76.15 at 1/16, 1/8, 1/4, 1/2.  Not reproduced here yet.

The recipe that really ran: learning rate 0.0025 and weight decay 4e-4 on mean losses (0.01 and
1e-4 were printed, with each loss divided by 4 GPUs).

Arguments: ratio=1_16|1_8|1_4|1_2, backbone=resnet50_v1s|resnet101_v1s|dinov2_small or another,
method=cps_cutmix|cps|supervised or any other of configs/methods.py,
add=no|pixel_contrast|pixel_contrast_memory: on top of it, published=no|yes: of cps and cps_cutmix
the defects of the released code too.
And protocol=NAME: val is scored as published, by cps_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets, protocols
from semiseg_jax.config import schema
from semiseg_jax.models import network

STEPS = {"1_16": 39_680, "1_8": 39_338, "1_4": 39_680, "1_2": 39_660}
EPOCHS = {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60}  # passes over the unlabeled pictures


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
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_published" * a.published

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)

  c.optimizer.learning_rate = 0.0025
  c.optimizer.weight_decay = 4e-4

  c.train.steps = STEPS[a.ratio]

  c.eval.every = 4000

  networks.fit(c, a.backbone)
  epoch = STEPS[a.ratio] // EPOCHS[a.ratio]
  methods.choose(c, a.method, methods.Task(epoch=epoch, supervised_epochs=1), a.add)
  if a.published:
    presets.cps_as_released(c, a.method)
    c.method.loss_group = 2  # two images per GPU: means are per pair, no global mean
  protocols.choose(c, a.protocol)
  return c
