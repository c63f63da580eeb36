"""UniMatch V2 and its FixMatch on ADE20K as published (2025), 8 + 8 crops of 518x518.

    python -m data_prep.folder --images images --labels masks --classes ade.txt --out data/ade20k \\
        --list train=train.txt --list val=val.txt --list labeled_1_64=1_64/labeled.txt
    python -m semiseg_jax.main --config=configs/unimatch_v2_ade.py:ratio=1_64 --workdir=runs/v2 \\
        --config.data.root=data/ade20k --config.model.pretrained=data/weights/dinov2_small

Published mIoU of UniMatch V2 (val, whole pictures, averaged teacher, best epoch) at 1/64, 1/32,
1/16, 1/8, 1/4: small 31.5 / 38.1 / 40.7 / 44.4 / 45.8, base 38.7 / 45.0 / 46.7 / 49.8 / 52.0, large
40.0 / 45.0 / 49.3 / 52.1 / 54.2.  Not reproduced here yet.

Masks hold the 150 classes as 0 to 149 and 255 for other; the lists are those of the authors.  The
encoder trains: the released config freezes it, the published runs did not.  What differs: the
learning rate follows its schedule, where the release lags one step behind.

Arguments: ratio=1_64|1_32|1_16|1_8|1_4, method=unimatch_v2|fixmatch_average|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=dinov2_small|dinov2_base|dinov2_large|dinov3_small|dinov3_small_plus|dinov3_base|
dinov3_large|dinov3_huge_plus, quirks=no|yes: partners, means and the pictures
without dropout are those among the 2 pictures of a GPU; the learning rate still has no lag.
"""

from ml_collections import ConfigDict

from configs import methods, presets
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 60, 4, 2
PICTURES = 20_210
LABELED = {"1_64": 316, "1_32": 631, "1_16": 1263, "1_8": 2526, "1_4": 5052}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(arg, ratio=presets.Choice("1_64", tuple(LABELED)), **presets.UNIMATCH_V2)
  c = schema.default()
  c.name = f"{a.method}_ade_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/ade20k"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (518, 518)

  presets.unimatch_v2(c, a, GPUS, PER_GPU, EPOCHS, PICTURES - LABELED[a.ratio])
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  return c
