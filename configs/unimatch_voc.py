"""UniMatch and its FixMatch on PASCAL VOC 2012 as published (CVPR 2023), 8 + 8 crops.

    python -m semiseg_jax.main --config=configs/unimatch_voc.py:ratio=366 --workdir=runs/unimatch \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU of UniMatch (val, whole pictures, best epoch), R101, crops of 321x321: 75.2 / 77.2 /
78.8 / 79.9 / 81.2 at 92 to 1464; 77.0 / 77.4 / 77.4 (means of three logs) at 1/16, 1/8, 1/4.  With
U2PL's lists and crops of 513x513: 80.94 / 81.92 / 80.43, R50 78.05 / 78.96 / 79.14.  Not reproduced
here yet.

The lists of 92 to 1464 are those of the authors (`labeled_92`, ...), 1/16 to 1/4 are those of CPS,
u2pl_1_16 to u2pl_1_4 those of U2PL (`labeled_u2pl_1_16`, ...): most of their labels are the finer
ones of VOC itself, so never compare the two.  What differs: the learning rate follows its schedule,
where the release lags one step behind, and the newest checkpoint is evaluated beside the best.

Nobody published fixmatch_average and unimatch_v2, which have an averaged teacher, with this recipe.

Arguments: ratio=92|183|366|732|1464|1_16|1_8|1_4|u2pl_1_16|u2pl_1_8|u2pl_1_4,
method=unimatch|fixmatch|fixmatch_average|unimatch_v2|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=resnet50_v1s|resnet101_v1s, quirks=no|yes: of unimatch and fixmatch, partners are other
crops of the same picture, and means are those of the pictures of a GPU (2; 4 with U2PL's lists);
the learning rate still has no lag.
And protocol=NAME: val is scored as published, by unimatch_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, methods, networks, presets, protocols
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 80, 4, 2
U2PL_GPUS, U2PL_PER_GPU = 2, 4
UNLABELED = {  # pictures; an epoch is one pass over them
  "92": 10_490,
  "183": 10_399,
  "366": 10_216,
  "732": 9850,
  "1464": 9118,
  "1_16": 9920,
  "1_8": 9259,
  "1_4": 7936,
}
U2PL = {"u2pl_1_16": 9920, "u2pl_1_8": 9259, "u2pl_1_4": 7936}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", (*UNLABELED, *U2PL)),
    method=presets.Choice("unimatch", presets.UNIMATCH),
    add=presets.ADDED,
    backbone=presets.Choice("resnet101_v1s", ("resnet50_v1s", "resnet101_v1s")),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (513, 513) if a.ratio in U2PL else (321, 321)
  augmentations.unimatch(c)

  networks.choose(c.model, "unimatch", 50 if a.backbone == "resnet50_v1s" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.weak_to_strong(c, a.method)
  gpus, per_gpu = (U2PL_GPUS, U2PL_PER_GPU) if a.ratio in U2PL else (GPUS, PER_GPU)
  if a.quirks:
    presets.unimatch_as_released(c, a.method, per_gpu, "unimatch_v2_voc.py")

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  pictures = (UNLABELED | U2PL)[a.ratio]
  c.train.steps = EPOCHS * presets.steps_of_an_epoch(pictures, gpus, per_gpu)

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  protocols.choose(c, a.protocol)
  return c
