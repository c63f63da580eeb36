"""s4GAN on PASCAL VOC 2012 (TPAMI 2021), 8 + 8 + 8 crops of 321x321, DeepLabv2 ResNet-101.

    python -m data_prep.splits --dataset data/voc --of train_aug --rule first \\
        --order splits/voc/split_0.pkl --ratio 50 20 8 \\
        --add labeled_s4gan_1_50 labeled_s4gan_1_20 labeled_s4gan_1_8
    python -m semiseg_jax.main --config=configs/s4gan_voc.py:ratio=1_8 --workdir=runs/s4gan \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101

Published mIoU (val, weights of ImageNet, mean of three lists): 58.1 / 60.9 / 65.4 at 1/50, 1/20,
1/8, and 71.1 with all labels, where supervised training has 48.3 / 56.8 / 62.0 / 70.7; 1/8 is
confirmed by an author, the others are quoted from memory.  They are those of step 30,000 of 40,000:
the row of that step, not the last one.  Not reproduced here yet.

The lists are those of the authors' repository (split 0); crops are neither scaled nor mirrored, as
in its commands.  By default the head sums its four branches, padding gets no pseudo labels, and D's
real pictures have their own range.

Arguments: ratio=1_50|1_20|1_8|full, method=s4gan|supervised, published=yes: the released code's two
branches, padding of val (to 505x505, here on all sides) and other defects.  It updates a parameter
of the backbone three times a step, so that its printed rate 2.5e-4 acts like 7.5e-4 there: that is
the rate of the backbone then.
And protocol=NAME: val is scored as published, by advsemiseg_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import adversarial, augmentations, presets, protocols
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", ("1_50", "1_20", "1_8", "full")),
    method=presets.method("s4gan"),
    published=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"s4gan_voc_{a.ratio}" + "_published" * a.published

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = f"labeled_s4gan_{a.ratio}"
  if a.ratio == "full":
    c.data.labeled, c.data.unlabeled = c.data.train, "all"
  c.data.crop = (321, 321)
  augmentations.advsemiseg(c, published=True)

  adversarial.s4gan_as_published(c, a.published)
  if a.published:
    c.eval.mode, c.eval.window = "slide", (505, 505)
  if a.method == "supervised":
    adversarial.s4gan_baseline(c)
  protocols.choose(c, a.protocol)
  return c
