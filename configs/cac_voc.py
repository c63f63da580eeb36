"""CAC on PASCAL VOC 2012 as published (CVPR 2021), 8 + 8 pictures, crops of 320x320, DeepLabv3+.

    python -m data_prep.splits --dataset data/voc --of LIST.txt --order list --rule first \\
        --ratio 1 --add labeled_cac0_1_8
    python -m semiseg_jax.main --config=configs/cac_voc.py:ratio=cac0_1_8 --workdir=runs/cac \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet50

mIoU (val, whole pictures, best epoch, mean over three lists; not read at their source) at 1/16,
1/8, 1/4 and full: R50 70.1 / 72.4 / 74.0 / 76.5, R101 72.4 / 74.6 / 76.3 / 78.2; with the second
encoder 72.3 at 1464.  Not reproduced here yet.

LIST.txt is a list of the authors' repository: cac0_1_8 is the first of the three of 1/8
(`labeled_cac0_1_8`: 1323 pictures; 662 of 1/16, 2645 of 1/4).  A file of theirs or of anybody else
is taken as it is by --config.data.labeled=FILE.  Runs around this code call 2645 pictures 1/8: go
by the number. `full`: all pictures are labeled, and all are unlabeled too.

Every list is trained on for as long, 80 x 1157 steps, and the baseline, method=supervised, as well;
its release stops after as many passes over its few pictures.  What differs: crops are drawn anew in
every step, where the release repeats those of an epoch's first batches; pictures of val are not
padded, none counts twice, and the newest checkpoint is evaluated beside the best.

Arguments: ratio=cac0_1_16|cac0_1_8|cac0_1_4|cac1_1_16|cac1_1_8|cac1_1_4|cac2_1_16|cac2_1_8|
cac2_1_4|1464|full, method=cac|supervised, backbone=resnet50|resnet101|resnet50_v1s (the last with
pyramid pooling, the second encoder), quirks=no|yes: means and draws of negatives are those of the 4
pictures of a GPU, and classes come from a classifier with dropout.
And protocol=NAME: val is scored as published, by cac_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets, protocols
from semiseg_jax.config import schema

EPOCH, EPOCHS, GPUS = 1157, 80, 2
LISTS = tuple(f"cac{k}_{ratio}" for k in range(3) for ratio in ("1_16", "1_8", "1_4"))


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("cac0_1_8", (*LISTS, "1464", "full")),
    method=presets.method("cac"),
    backbone=presets.Choice("resnet50", ("resnet50", "resnet101", "resnet50_v1s")),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = "train_aug" if a.ratio == "full" else presets.ratio_list(a.ratio)
  c.data.crop = (320, 320)
  augmentations.cac(c, 400)

  layers = 101 if a.backbone == "resnet101" else 50
  networks.choose(c.model, "cac_psp" if a.backbone == "resnet50_v1s" else "cac", layers)
  c.model.pretrained = f"data/weights/{a.backbone}"

  c.train.steps = EPOCHS * EPOCH
  presets.cac_as_published(c, a, EPOCH, GPUS)
  if a.method == "cac":
    c.method.cac.negatives = 40 * 40  # all of a crop
    c.method.cac.bank = 3 if a.backbone == "resnet101" else 2

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.eval.every = 5 * EPOCH
  c.eval.mode, c.eval.whole = "whole", "as_is"
  protocols.choose(c, a.protocol)
  return c
