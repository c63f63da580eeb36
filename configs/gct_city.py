"""GCT on Cityscapes as the authors of CPS run it, 8 + 8 crops of 800x800, DeepLabv3+.

    python -m semiseg_jax.main --config=configs/gct_city.py:ratio=1_8 --workdir=runs/gct \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU (baselines in the paper of CPS, CVPR 2021; val, sliding window) at 1/16, 1/8, 1/4,
1/2: R50 65.81 / 71.33 / 75.30 / 77.09, R101 66.90 / 72.96 / 76.45 / 78.58.  Not reproduced here
yet.  The authors of GCT have no recipe for Cityscapes.

Crops, network, optimizer and OHEM are those of cps_city.py; the weights 1, 100 and 10, the
threshold 0.6 and the rise over 3 epochs those of the authors of GCT.  What differs: labeled and
unlabeled pictures share batch statistics, the flaw detector sees predictions of before the update,
and its learning rate follows the schedule, which the released code computes and does not apply.

Arguments: ratio=1_16|1_8|1_4|1_2, method=gct|supervised, backbone=resnet50_v1s|resnet101_v1s,
quirks=no|yes: with those of the released code (COMPAT of semiseg_jax/methods/gct.py).
"""

from ml_collections import ConfigDict

from configs import cps_city, presets
from semiseg_jax.methods import gct


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("gct"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
    quirks=False,
  )
  c = cps_city.get_config(f"ratio={a.ratio},backbone={a.backbone},method=gct")
  c.name += "_quirks" * a.quirks
  if a.quirks:
    c.method.compat = gct.COMPAT
  if a.method == "supervised":
    presets.supervised(c)
  return c
