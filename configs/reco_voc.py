"""ReCo on PASCAL VOC 2012 as published (ICLR 2022), 10 + 10 crops of 321x321, R101.

    python -m semiseg_jax.main --config=configs/reco_voc.py:ratio=92 --workdir=runs/reco \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101

Published mIoU (val, best epoch of the teacher): 57.12 with 60 labels, where ClassMix alone has
53.71 and supervised training 36.06; on the lists of PseudoSeg 64.8 / 72.0 / 73.1 / 74.7 at 92 to
732, from an index of results.  Not reproduced here yet.

The authors draw 60 pictures for each seed so that all classes are there.  `data_prep.splits` gives
such a list by `--rule class_balanced --count 60`, for `--config.data.labeled=FILE`.  What differs:
the learning rate falls every step and not every epoch, down to 0; lists are passed through and not
drawn with replacement; the picture of the teacher is mirrored half of the time; a picture is scaled
to a factor of its long side in whole pixels.

Arguments: ratio=92|183|366|732|1464, method=reco|supervised, quirks=no|yes: confidences of 8 bits,
and sure pixels are left out of the mean; the rest of the above still differs.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.methods import reco


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("92", ("92", "183", "366", "732", "1464")),
    method=presets.method("reco"),
    quirks=False,
  )
  c = schema.default()
  c.name = f"reco_voc_{a.ratio}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (321, 321)
  augmentations.unimatch(c)
  c.data.scales, c.data.padding = (0.5, 1.5), "mean"

  networks.choose(c.model, "reco", 101)
  c.model.pretrained = "data/weights/resnet101"

  presets.reco(c)
  if a.quirks:
    c.method.compat = reco.COMPAT

  c.optimizer.learning_rate = 2.5e-3
  c.optimizer.nesterov = True
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"

  c.train.batch_labeled = c.train.batch_unlabeled = 10
  c.train.steps = 40_000

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
