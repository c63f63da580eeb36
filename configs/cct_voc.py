"""CCT on PASCAL VOC 2012 as published (CVPR 2020), 10 + 10 crops of 320x320, ResNet-50, PSPNet.

    python -m semiseg_jax.main --config=configs/cct_voc.py:ratio=1464 --workdir=runs/cct \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU (val, whole pictures, best epoch) at 1464: 69.4; users of the released code report
68.9 to 72.0, and 67.0 for supervised training.  Not reproduced here yet.

An epoch is one pass over the unlabeled pictures; the release has 80, the paper's numbers are of 50.
The lists of 60 to 1464 are those of the authors (`labeled_60`, ...), 1/16 to 1/4 are those of CPS.
What differs: labeled crops are drawn anew in every step, pictures of val are not padded, and the
newest checkpoint is evaluated beside the best.

Arguments: ratio=60|100|200|300|500|800|1000|1464|1_16|1_8|1_4, method=cct|supervised,
backbone=resnet50_v1s|resnet101_v1s, head=pspnet|deeplabv3plus, quirks=no|yes: with those of the
released code (COMPAT of semiseg_jax/methods/cct.py), and its xi of I-VAT, with which that is almost
off; the rest of the above still differs.
And protocol=NAME: val is scored as published, by cct_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets, protocols
from semiseg_jax.config import schema

EPOCHS, RAMP, BATCH, PICTURES = 80, 8, 10, 10_582
LABELED = {"1_16": 662, "1_8": 1323, "1_4": 2646}  # pictures
COUNTS = ("60", "100", "200", "300", "500", "800", "1000", "1464")
HEADS = {"pspnet": "cct", "deeplabv3plus": "unimatch"}


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1464", (*COUNTS, *LABELED)),
    method=presets.method("cct"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
    head=presets.Choice("pspnet", tuple(HEADS)),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"cct_voc_{a.ratio}_{a.backbone}_{a.head}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (320, 320)
  augmentations.cac(c, 400)

  networks.choose(c.model, HEADS[a.head], 50 if a.backbone == "resnet50_v1s" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  labeled = LABELED.get(a.ratio) or int(a.ratio)
  steps = -(-(PICTURES - labeled) // BATCH)  # of an epoch
  presets.cross_consistency(c)
  c.method.weight_ramp_steps = RAMP * steps
  if a.quirks:
    c.method.cct.xi = 1e-6
    c.method.compat = ("consistency_padding", "contours")

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.train.steps = EPOCHS * steps
  c.train.batch_labeled = c.train.batch_unlabeled = BATCH

  c.eval.every = 5 * steps
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  protocols.choose(c, a.protocol)
  return c
