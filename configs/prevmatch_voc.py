"""PrevMatch on PASCAL VOC 2012 as published (2024), 8 + 8 crops of 321x321 on one GPU.

    python -m semiseg_jax.main --config=configs/prevmatch_voc.py:ratio=366 --workdir=runs/prev \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU (README of the release, val) at 92, 183, 366, 732, 1464: R50 73.4 / 75.4 / 77.5 /
78.6 / 79.3, R101 77.0 / 78.5 / 79.6 / 80.4 / 81.6.  Not reproduced here yet.

All that is not named here is UniMatch's (unimatch_voc.py).  What differs: the queue takes an entry
every four epochs, 20 in a run, where the release takes what reached a new best validation score.

Arguments: ratio=92|183|366|732|1464|1_16|1_8|1_4, method=prevmatch|supervised,
backbone=resnet50_v1s|resnet101_v1s.
"""

from ml_collections import ConfigDict

from configs import presets, unimatch_voc

ENTRIES = 20


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", tuple(unimatch_voc.UNLABELED)),
    method=presets.method("prevmatch"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
  )
  c = unimatch_voc.get_config(f"ratio={a.ratio},backbone={a.backbone}")
  c.name = f"prevmatch_voc_{a.ratio}_{a.backbone}"

  c.method.name = "prevmatch"
  epoch = presets.steps_of_an_epoch(unimatch_voc.UNLABELED[a.ratio], 1, 8)
  c.train.steps = unimatch_voc.EPOCHS * epoch
  c.method.prevmatch.every = c.train.steps // ENTRIES
  if a.method == "supervised":
    presets.supervised(c, double=True)
  return c
