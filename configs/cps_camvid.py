"""CPS on CamVid (11 classes, 480x360) with MobileNetV2 and its ImageNet weights.

    python -m data_prep.pretrained --source mobilenet_v2.npz --backbone mobilenet_v2 \\
        --out data/weights/mobilenet_v2
    python -m semiseg_jax.main --config=configs/cps_camvid.py --workdir=runs/camvid

Arguments: ratio=1_16|1_8|1_4|1_2, method=cps_cutmix|cps|supervised|mean_teacher|cutmix_seg|cpc.
"""

from ml_collections import ConfigDict

from configs import presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.Choice("cps_cutmix", presets.METHODS),
  )
  c = schema.default()
  c.name = f"{a.method}_camvid_{a.ratio}"

  c.data.root = "data/camvid"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (320, 320)

  c.model.backbone = "mobilenet_v2"
  c.model.pretrained = "data/weights/mobilenet_v2"

  presets.choose_method(c, a.method, plain=1.5, mixed=1.5)

  c.optimizer.learning_rate = 0.01
  c.optimizer.weight_decay = 4e-4

  c.train.steps = 4000

  c.eval.every = 1000
  c.eval.mode = "whole"

  c.checkpoint.every = 1000
  return c
