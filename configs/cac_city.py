"""CAC on Cityscapes as published (CVPR 2021), 8 + 8 pictures, crops of 720x720, DeepLabv3+.

    python -m data_prep.splits --dataset data/cityscapes --of LIST.txt --order list --rule first \\
        --ratio 1 --add labeled_cac0_1_8
    python -m semiseg_jax.main --config=configs/cac_city.py:ratio=cac0_1_8 --workdir=runs/cac \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50

mIoU (val, whole pictures, best epoch, mean over three lists; not read at their source) at 1/8, 1/4
and full, R50: 69.7 / 72.7 / 77.5.  Not reproduced here yet; sliding windows give about 1.5 more.

LIST.txt is a list of the authors' repository: cac0_1_8 is the first of the three of 1/8
(`labeled_cac0_1_8`: 372 pictures, 744 of 1/4; the first list of 1/8 is U2PL's, too).  A file of
theirs or of anybody else is taken as it is by --config.data.labeled=FILE.  `full`: all pictures are
labeled, and all are unlabeled too.  Nobody published resnet101 here.

Every list is trained on for as long, 80 x 1157 steps, and the baseline, method=supervised, as well;
its release stops after as many passes over its few pictures.  What differs: crops are drawn anew in
every step, where the release repeats those of an epoch's first batches; the newest checkpoint is
evaluated beside the best.

Arguments: ratio=cac0_1_8|cac0_1_4|cac1_1_8|cac1_1_4|cac2_1_8|cac2_1_4|full, method=cac|supervised,
backbone=resnet50|resnet101, quirks=no|yes: means and draws of negatives are those of the 2 pictures
of a GPU, and classes come from a classifier with dropout.
And protocol=NAME: val is scored as published, by cac_city or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, cac_voc, networks, presets, protocols
from semiseg_jax.config import schema

GPUS = 4
LISTS = tuple(f"cac{k}_{ratio}" for k in range(3) for ratio in ("1_8", "1_4"))


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("cac0_1_8", (*LISTS, "full")),
    method=presets.method("cac"),
    backbone=presets.Choice("resnet50", ("resnet50", "resnet101")),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_city_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes"
  c.data.labeled = "train" if a.ratio == "full" else presets.ratio_list(a.ratio)
  c.data.crop = (720, 720)
  augmentations.cac(c, 2048)
  c.data.labeled_photometry, c.data.strong.jitter = "jitter", (0.4, 0.4, 0.4, 0.1)
  c.data.workers = 8

  networks.choose(c.model, "cac", 50 if a.backbone == "resnet50" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  c.train.steps = cac_voc.EPOCHS * cac_voc.EPOCH
  presets.cac_as_published(c, a, cac_voc.EPOCH, GPUS)
  if a.method == "cac":
    c.method.cac.negatives = 90 * 90  # all of a crop
    c.method.cac.bank = 1

  c.optimizer.learning_rate = 0.01
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.eval.every = 5 * cac_voc.EPOCH
  c.eval.mode, c.eval.whole = "whole", "as_is"
  protocols.choose(c, a.protocol)
  return c
