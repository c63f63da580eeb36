"""AdvSemiSeg on PASCAL VOC 2012 (BMVC 2018), 10 + 10 crops of 321x321, DeepLabv2 ResNet-101.

    python -m semiseg_jax.main --config=configs/advsemiseg_voc.py:ratio=1_8 \\
        --workdir=runs/advsemiseg --config.data.root=data/voc \\
        --config.model.pretrained=data/weights/resnet101

Published mIoU (val) at 1/8, 1/4, 1/2: 69.5 / 72.1 / 73.8; supervised 66.0 / 68.3 / 69.8, with all
labels 73.6.  All start from a network trained on COCO, whose converted file takes the place of
`model.pretrained`; from ImageNet's weights the authors of s4GAN measured 64.3 at 1/8.  Not
reproduced here yet.

By default the head sums its four branches and crops are scaled and mirrored as the paper says.  The
authors draw int(ratio * 10582) pictures anew in each run; `labeled_1_8` is the list of CPS, and
`data_prep.splits --of train_aug --rule first --order train_id.pkl --ratio 8` reads one of theirs.

Arguments: ratio=1_8|1_4|1_2, method=advsemiseg|supervised, published=yes: the released code's two
branches, crops, padding of val (to 505x505, here on all sides) and other defects.  It updates a
parameter of the backbone three times a step, so that its printed rate 2.5e-4 acts like 7.5e-4
there: that is the rate of the backbone then.  Batches are full also where a pass over the labels
ends, as everywhere here.
And protocol=NAME: val is scored as published, by advsemiseg_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import adversarial, augmentations, networks, presets, protocols
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  ratios = presets.Choice("1_8", ("1_8", "1_4", "1_2"))
  a = presets.arguments(
    arg,
    ratio=ratios,
    method=presets.method("advsemiseg"),
    published=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"advsemiseg_voc_{a.ratio}" + "_published" * a.published

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (321, 321)
  augmentations.advsemiseg(c, a.published)

  networks.choose(c.model, "advsemiseg", 101)
  c.model.pretrained = "data/weights/resnet101"

  adversarial.advsemiseg(c)
  if a.published:
    c.model.deeplabv2.summed = 2
    c.method.compat = ("drop_adversarial", "unlabeled_padding")

  adversarial.optimizer(c, repeats=3 if a.published else 1)

  c.train.steps = 20_000
  c.train.batch_labeled = 10
  c.train.batch_unlabeled = 10

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.published:
    c.eval.mode, c.eval.window = "slide", (505, 505)
  if a.method == "supervised":
    presets.supervised(c)
  protocols.choose(c, a.protocol)
  return c
