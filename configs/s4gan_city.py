"""s4GAN on Cityscapes of half size (TPAMI 2021), 8 + 8 + 8 crops of 256x512, DeepLabv2 ResNet-101.

    python -m semiseg_jax.main --config=configs/s4gan_city.py:ratio=1_8 --workdir=runs/s4gan \\
        --config.data.root=data/cityscapes_half --config.model.pretrained=data/weights/resnet101

Pictures of 1024x512 and their labels (nearest pixels) are prepared with data_prep.folder; the
published numbers are of that size as well, and not comparable with those of whole pictures.

Published mIoU (val, weights of ImageNet): 59.3 / 61.9 / 65.8 at 1/8, 1/4 and with all labels, where
supervised training has 56.2 / 60.2 / 66.0; quoted from memory.  They are those of step 30,000 of
40,000: the row of that step, not the last one.  Not reproduced here yet.

What differs: the released list of numbers counts files in the order of a disk and cannot be had
again, so `labeled_1_8` is any list of that size, such as those of `data_prep.splits --rule random`;
the network sees RGB, the released one BGR.

Arguments: ratio=1_8|1_4|full, method=s4gan|supervised, quirks=no|yes: the released code's two
branches of the head, its defects and the rate that its repeated updates amount to; the rest of the
above still differs.
"""

from ml_collections import ConfigDict

from configs import adversarial, presets
from semiseg_jax.config import schema

# Of the release, which subtracts these means of R, G, B from B, G, R.
MEAN = (73.15835921, 82.90891754, 72.39239876)


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", ("1_8", "1_4", "full")),
    method=presets.method("s4gan"),
    quirks=False,
  )
  c = schema.default()
  c.name = f"s4gan_city_{a.ratio}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes_half"
  c.data.labeled = presets.ratio_list(a.ratio)
  if a.ratio == "full":
    c.data.labeled, c.data.unlabeled = c.data.train, "all"
  c.data.crop = (256, 512)
  c.data.augment, c.data.scales = "advsemiseg", (1.0,)
  c.data.mean, c.data.std = tuple(m / 255 for m in MEAN), (1.0, 1.0, 1.0)
  c.data.workers = 8

  adversarial.s4gan_as_published(c, a.quirks)
  c.method.s4gan.threshold, c.method.s4gan.learning_rate = 0.7, 1e-5
  if a.method == "supervised":
    adversarial.s4gan_baseline(c)
  return c
