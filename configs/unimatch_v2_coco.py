"""UniMatch V2 and its FixMatch on COCO as published (2025), 16 + 16 crops of 518x518.

    python -m data_prep.folder --images images --labels masks --classes coco.txt --out data/coco \\
        --list train=train.txt --list val=val.txt --list labeled_1_512=1_512/labeled.txt
    python -m semiseg_jax.main --config=configs/unimatch_v2_coco.py:ratio=1_512 --workdir=runs/v2 \\
        --config.data.root=data/coco --config.model.pretrained=data/weights/dinov2_small

Published mIoU of UniMatch V2 (val, whole pictures, averaged teacher, best epoch) at 1/512, 1/256,
1/128, 1/64, 1/32: small 39.3 / 45.4 / 53.2 / 55.0 / 57.0, base 47.9 / 55.8 / 58.7 / 60.4 / 63.3.
Not reproduced here yet.

Masks hold 81 classes, 0 is background; the lists are those of the authors.  What differs: the
learning rate follows its schedule, where the release lags one step behind.

Arguments: ratio=1_512|1_256|1_128|1_64|1_32, method=unimatch_v2|fixmatch_average|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=dinov2_small|dinov2_base|dinov2_large|dinov3_small|dinov3_small_plus|dinov3_base|
dinov3_large|dinov3_huge_plus, quirks=no|yes: partners, means and the pictures
without dropout are those among the 4 pictures of a GPU; the learning rate still has no lag.
"""

from ml_collections import ConfigDict

from configs import methods, presets
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 20, 4, 4
PICTURES = 118_287
LABELED = {"1_512": 232, "1_256": 463, "1_128": 925, "1_64": 1849, "1_32": 3697}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(arg, ratio=presets.Choice("1_512", tuple(LABELED)), **presets.UNIMATCH_V2)
  c = schema.default()
  c.name = f"{a.method}_coco_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/coco"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (518, 518)

  presets.unimatch_v2(c, a, GPUS, PER_GPU, EPOCHS, PICTURES - LABELED[a.ratio])
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  return c
