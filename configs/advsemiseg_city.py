"""AdvSemiSeg on Cityscapes of half size (BMVC 2018), 2 + 2 whole pictures, DeepLabv2 ResNet-101.

    python -m semiseg_jax.main --config=configs/advsemiseg_city.py:ratio=1_8 \\
        --workdir=runs/advsemiseg --config.data.root=data/cityscapes_half \\
        --config.model.pretrained=data/weights/resnet101

Pictures of 1024x512 and their labels (nearest pixels) are prepared with data_prep.folder; nothing
is scaled, mirrored or cut.  Published mIoU (val) at 1/8, 1/4, 1/2: 58.8 / 62.3 / 65.7, supervised
55.5 / 59.9 / 64.1, with all labels 66.4, quoted from memory; from ImageNet's weights the authors of
s4GAN measured 57.1 / 60.5 at 1/8, 1/4.  Not reproduced here yet.

The paper's recipe: no code of it was released.  Rates, weights of the losses and when they begin
are those of VOC; the lists are any of that size, such as those of `data_prep.splits`.

Arguments: ratio=1_8|1_4|1_2, method=advsemiseg|supervised.
"""

from ml_collections import ConfigDict

from configs import adversarial, augmentations, networks, presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", ("1_8", "1_4", "1_2")),
    method=presets.method("advsemiseg"),
  )
  c = schema.default()
  c.name = f"advsemiseg_city_{a.ratio}"

  c.data.root = "data/cityscapes_half"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (512, 1024)
  augmentations.advsemiseg(c, published=True)
  c.data.workers = 8

  networks.choose(c.model, "advsemiseg", 101)
  c.model.pretrained = "data/weights/resnet101"

  adversarial.advsemiseg(c)
  adversarial.optimizer(c, repeats=1)

  c.train.steps = 40_000
  c.train.batch_labeled = c.train.batch_unlabeled = 2

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c)
  return c
