"""PseudoSeg on PASCAL VOC 2012 (ICLR 2021), 64 + 64 crops of 513x513, 30,000 steps.

    python -m semiseg_jax.main --config=configs/pseudoseg_voc.py:ratio=92 --workdir=runs/pseudo \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU (val, R101, as later papers quote it) at 92, 183, 366, 732, 1464: 57.60 / 65.50 /
69.14 / 72.41 / 73.23.  Not reproduced here yet.

The release trains Xception-65 unless asked for a ResNet; that backbone is absent here.  The
unlabeled pictures are all of train_aug, the labeled ones too.  What differs: separable convolutions
and dropout of the ASPP are absent, blocks of a ResNet stride where they begin, and jitter takes the
mean of a crop, not of its picture.  The release trains on 16 GPUs of 4 + 4 crops.

Arguments: ratio=92|183|366|732|1464, method=pseudoseg|supervised,
backbone=resnet50_v1s|resnet101_v1s, image_labels=no|yes: the classes of unlabeled crops are known,
from data.targets (there: weakly), quirks=no|yes: statistics and means are those of a GPU, and
attention on weak views is as released; the rest of the above still differs.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.methods import pseudoseg

RATIOS = ("92", "183", "366", "732", "1464")


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("92", RATIOS),
    method=presets.method("pseudoseg"),
    backbone=presets.Choice("resnet101_v1s", ("resnet50_v1s", "resnet101_v1s")),
    image_labels=False,
    quirks=False,
  )
  c = schema.default()
  c.name = f"pseudoseg_voc_{a.ratio}_{a.backbone}"
  c.name += "_image_labels" * a.image_labels + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.unlabeled = "all"
  c.data.crop = (513, 513)
  c.data.workers = 8
  augmentations.pseudoseg(c)

  networks.choose(c.model, "unimatch", 50 if a.backbone == "resnet50_v1s" else 101)
  c.model.resnet.dilate_first = True
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.pseudoseg(c)
  if a.image_labels:
    c.method.pseudoseg.image_labels = "stored"
    c.data.targets = "data/voc_classes"
  if a.quirks:
    c.method.compat = pseudoseg.COMPAT
    c.method.loss_group = c.train.bn_group = 4

  c.optimizer.learning_rate = 7e-3
  c.optimizer.weight_decay = 1e-4

  c.train.steps = 30_000
  c.train.batch_labeled = 64
  c.train.batch_unlabeled = 64

  c.eval.every = 3000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
