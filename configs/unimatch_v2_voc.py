"""UniMatch V2 and its FixMatch on PASCAL VOC 2012 as published (2025), 16 + 16 crops of 518x518.

    python -m semiseg_jax.main --config=configs/unimatch_v2_voc.py:ratio=366 --workdir=runs/v2 \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/dinov2_small

Published mIoU of UniMatch V2 (val, averaged teacher, best epoch) at 92 to 1464, small 79.0 / 85.5 /
85.9 / 86.7 / 87.8, base 86.3 / 87.9 / 88.9 / 90.0 / 90.8, large 86.4 / 87.6 / 90.3 / 91.1 / 91.2.
Not reproduced here yet.

The lists are those of UniMatch's authors (`labeled_92`, ...).  What differs: the learning rate
follows its schedule, where the release lags one step behind.  `--config.eval.stack=` scores the
student.  DINOv3 is not in the paper: the same recipe with crops of 512x512, 32 x 32 patches.

Arguments: ratio=92|183|366|732|1464, method=unimatch_v2|fixmatch_average|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=dinov2_small|dinov2_base|dinov2_large|dinov3_small|dinov3_small_plus|dinov3_base|
dinov3_large|dinov3_huge_plus, quirks=no|yes: partners, means and the pictures
without dropout are those among the 4 pictures of a GPU; the learning rate still has no lag.
And protocol=NAME: val is scored as published, by unimatch_v2_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import methods, presets, protocols
from configs.unimatch_voc import UNLABELED
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 60, 4, 4


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", ("92", "183", "366", "732", "1464")),
    **presets.UNIMATCH_V2,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (518, 518)

  presets.unimatch_v2(c, a, GPUS, PER_GPU, EPOCHS, UNLABELED[a.ratio])
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  protocols.choose(c, a.protocol)
  return c
