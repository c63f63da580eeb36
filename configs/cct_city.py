"""CCT on Cityscapes, not published: its VOC recipe on crops of 720x720, 8 + 8 pictures.

    python -m semiseg_jax.main --config=configs/cct_city.py:ratio=1_8 --workdir=runs/cct \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50_v1s

No number to expect: the authors' experiments on Cityscapes are not in their code, and their configs
are lost.  Network, decoders, lambda and learning rates are those of VOC; crops and their scales are
those of CAC, which is built on CCT; steps and evaluation are those of CPS.

Objects are Cityscapes' people and vehicles, classes 11 to 18: CCT takes class 0 alone for
background, which is road here.

Arguments: ratio=1_16|1_8|1_4|1_2, method=cct|supervised, backbone=resnet50_v1s|resnet101_v1s,
head=pspnet|deeplabv3plus.
"""

from ml_collections import ConfigDict

from configs import augmentations, cct_voc, cps_city, networks, presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("cct"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
    head=presets.Choice("pspnet", tuple(cct_voc.HEADS)),
  )
  c = schema.default()
  c.name = f"cct_city_{a.ratio}_{a.backbone}_{a.head}"

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (720, 720)
  augmentations.cac(c, 2048)
  c.data.workers = 8

  networks.choose(c.model, cct_voc.HEADS[a.head], 50 if a.backbone == "resnet50_v1s" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  c.train.steps = cps_city.STEPS[a.ratio]
  presets.cross_consistency(c)
  c.method.weight_ramp_steps = c.train.steps // 10
  c.method.cct.background = cps_city.STUFF

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.eval.every = 4000
  c.eval.window = (720, 720)
  c.eval.stride = (480, 480)
  if a.method == "supervised":
    presets.supervised(c)
  return c
