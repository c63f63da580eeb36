"""PrevMatch on Cityscapes as published (2024), 8 + 8 crops of 801x801 on two GPUs.

    python -m semiseg_jax.main --config=configs/prevmatch_city.py:ratio=1_16 --workdir=runs/prev \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU (README of the release, val, sliding window) at 1/16, 1/8, 1/4, 1/2: R50 75.8 / 77.8
/ 78.8 / 79.2, R101 77.7 / 78.9 / 80.1 / 80.1.  Not reproduced here yet.

All that is not named here is UniMatch's (unimatch_city.py).  Every pixel teaches; what earlier
networks teach is weighted by the mean confidence of its picture.  What differs: the queue takes an
entry every twelve epochs, 20 in a run, where the release takes what reached a new best validation
score.

Arguments: ratio=1_16|1_8|1_4|1_2, method=prevmatch|supervised, backbone=resnet50_v1s|resnet101_v1s,
quirks=no|yes: with the weights of the release, which grow with the pictures of a GPU and count
padding.
"""

from ml_collections import ConfigDict

from configs import presets, unimatch_city

ENTRIES, GPUS, PER_GPU = 20, 2, 4


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("prevmatch"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
    quirks=False,
  )
  c = unimatch_city.get_config(f"ratio={a.ratio},backbone={a.backbone}")
  c.name = f"prevmatch_city_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.method.name, c.method.prevmatch.weighting = "prevmatch", "confidence"
  c.method.ohem_kept_fraction = 200_000 / (PER_GPU * 801 * 801)
  if a.quirks:
    c.method.compat, c.method.loss_group = ("summed_confidence",), PER_GPU
  epoch = presets.steps_of_an_epoch(unimatch_city.UNLABELED[a.ratio], GPUS, PER_GPU)
  c.train.steps = unimatch_city.EPOCHS * epoch
  c.method.prevmatch.every = c.train.steps // ENTRIES
  if a.method == "supervised":
    presets.supervised(c, double=True)
  return c
