"""CutMix-Seg on Cityscapes of half size as its authors train it, 4 + 4 crops of 256x512, DeepLabv2.

    python -m semiseg_jax.main --config=configs/cutmix_seg_city.py:ratio=372 \\
        --workdir=runs/cutmix_seg --config.data.root=data/cityscapes_half \\
        --config.model.pretrained=data/weights/resnet101

Pictures of 1024x512 and their labels (nearest pixels) are prepared with data_prep.folder; the
authors halve pictures by means of 2x2 pixels, and their numbers are of that size as well.

Published mIoU (BMVC 2020, val, weights of ImageNet) at 100, 372, 744 labels: 51.20 / 60.34 / 63.87,
supervised 44.41 / 55.25 / 60.57; quoted from memory, not checked at the source.  Not reproduced
here yet.

Adam at a constant rate, no weight decay; normalizations keep the statistics, scales and biases of
the ImageNet weights.  Unlabeled are all pictures of train; crops are mirrored and not scaled.  The
lists are `labeled_100`, `labeled_372` and `labeled_744`.  What differs: means are over the pixels
of pictures, and the average follows faster in its first 100 updates.

Arguments: ratio=100|372|744, method=cutmix_seg|supervised, color=no|yes: strong views of the
student, as in the released scripts (arXiv 2110.04487) but not in the paper of BMVC, quirks=no|yes:
the head sums two of its four branches, as released.
"""

from ml_collections import ConfigDict

from configs import presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("372", ("100", "372", "744")),
    method=presets.method("cutmix_seg"),
    color=False,
    quirks=False,
  )
  c = schema.default()
  c.name = f"cutmix_seg_city_{a.ratio}" + "_color" * a.color + "_quirks" * a.quirks

  c.data.root = "data/cityscapes_half"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.unlabeled = "all"
  c.data.crop = (256, 512)
  c.data.augment = "advsemiseg"
  c.data.scales = (1.0,)
  c.data.workers = 8

  presets.cutmix_seg_published(c, a.color, a.quirks)
  c.optimizer.learning_rate = 3e-6

  c.train.batch_labeled = 4
  c.train.batch_unlabeled = 4
  if a.method == "supervised":
    presets.supervised(c)
  return c
