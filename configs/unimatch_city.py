"""UniMatch and its FixMatch on Cityscapes as published (CVPR 2023), 8 + 8 crops of 801x801.

    python -m semiseg_jax.main --config=configs/unimatch_city.py:ratio=1_16 --workdir=runs/uni \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/resnet50_v1s

Published mIoU of UniMatch (val, sliding window, best epoch of the logs), R50: 75.03 / 76.77 / 77.49
/ 78.60, R101: 76.59 / 77.92 / 79.22 / 79.45 at 1/16, 1/8, 1/4, 1/2.  Not reproduced here yet.

Every pixel teaches (threshold 0).  What differs: the learning rate follows its schedule, where the
release lags one step behind, and the last windows are shifted back into the picture, where the
release cuts them.

Nobody published fixmatch_average and unimatch_v2, which have an averaged teacher, with this recipe.

Arguments: ratio=1_16|1_8|1_4|1_2, method=unimatch|fixmatch|fixmatch_average|unimatch_v2|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=resnet50_v1s|resnet101_v1s, quirks=no|yes: of unimatch and fixmatch, partners are other
crops of the same picture, and means and hard pixels are those of the 2 pictures of a GPU; the
learning rate still has no lag, and windows are still shifted back.
And protocol=NAME: val is scored as published, by unimatch_city or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, methods, networks, presets, protocols
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 240, 4, 2
UNLABELED = {"1_16": 2789, "1_8": 2603, "1_4": 2231, "1_2": 1487}  # an epoch is one pass


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.Choice("unimatch", presets.UNIMATCH),
    add=presets.ADDED,
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_city_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (801, 801)
  augmentations.unimatch(c)
  c.data.workers = 8

  networks.choose(c.model, "unimatch", 50 if a.backbone == "resnet50_v1s" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.weak_to_strong(c, a.method)
  c.method.threshold = 0.0
  c.method.supervised_loss = "ohem"
  c.method.ohem_kept_fraction = 200_000 / (PER_GPU * 801 * 801)
  if a.quirks:
    presets.unimatch_as_released(c, a.method, PER_GPU, "unimatch_v2_city.py")

  c.optimizer.learning_rate = 5e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"

  c.train.steps = EPOCHS * presets.steps_of_an_epoch(UNLABELED[a.ratio], GPUS, PER_GPU)

  c.eval.every = 4000
  c.eval.window = (801, 801)
  c.eval.stride = (534, 534)
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  protocols.choose(c, a.protocol)
  return c
