"""PseudoSeg on COCO with 80 classes and background, 64 + 64 crops of 513x513, 200,000 steps.

    python -m semiseg_jax.main --config=configs/pseudoseg_coco.py:ratio=1_512 \\
        --workdir=runs/pseudoseg --config.data.root=data/coco \\
        --config.model.pretrained=data/weights/resnet101_v1s

Published mIoU (val, Xception-65, as UniMatch's README quotes it) at 1/512, 1/256, 1/128, 1/64,
1/32, 232 to 3697 of 118,287 pictures: 29.8 / 37.1 / 39.1 / 41.8 / 43.6.  Xception-65 is absent
here: these numbers belong to no backbone of this file.  Not reproduced here.

All that is not named here is that of pseudoseg_voc.py.  data/coco is to be written by
data_prep.folder, with lists labeled_1_512 to labeled_1_32.

Arguments: ratio=1_512|1_256|1_128|1_64|1_32, method=pseudoseg|supervised,
backbone=resnet50_v1s|resnet101_v1s, quirks=no|yes.
"""

from ml_collections import ConfigDict

from configs import presets, pseudoseg_voc


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_512", ("1_512", "1_256", "1_128", "1_64", "1_32")),
    method=presets.method("pseudoseg"),
    backbone=presets.Choice("resnet101_v1s", ("resnet50_v1s", "resnet101_v1s")),
    quirks=False,
  )
  quirks = "yes" if a.quirks else "no"
  c = pseudoseg_voc.get_config(f"backbone={a.backbone},quirks={quirks}")
  c.name = f"pseudoseg_coco_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/coco"
  c.data.train = "train"
  c.data.labeled = presets.ratio_list(a.ratio)

  c.train.steps = 200_000
  c.eval.every = 10_000
  if a.method == "supervised":
    presets.supervised(c)
  return c
