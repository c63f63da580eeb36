"""CutMix-Seg on PASCAL VOC 2012 as its authors train it, 10 + 10 crops of 321x321, DeepLabv2.

    python -m semiseg_jax.main --config=configs/cutmix_seg_voc.py:ratio=1323 \\
        --workdir=runs/cutmix_seg --config.data.root=data/voc \\
        --config.model.pretrained=data/weights/resnet101

Published mIoU (BMVC 2020, val, weights of ImageNet) at 106, 212, 529, 1323 labels: 53.79 / 64.81 /
66.48 / 67.60, supervised 33.09 / 43.15 / 52.05 / 60.56; quoted from memory, not checked at the
source.  Not reproduced here yet.

Adam at a constant rate, no weight decay; normalizations keep the statistics, scales and biases of
the ImageNet weights.  Unlabeled are all pictures of train_aug.  The lists are the first so many of
one permutation of the 10,582 pictures (`labeled_106`, ...).  What differs: means are over the
pixels of pictures, where the release counts padding too, and the average follows faster in its
first 100 updates.

Arguments: ratio=106|212|529|1323, method=cutmix_seg|supervised, color=no|yes: strong views of the
student, as in the released scripts (arXiv 2110.04487) but not in the paper of BMVC, quirks=no|yes:
the head sums two of its four branches, as released.
"""

from ml_collections import ConfigDict

from configs import presets
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1323", ("106", "212", "529", "1323")),
    method=presets.method("cutmix_seg"),
    color=False,
    quirks=False,
  )
  c = schema.default()
  c.name = f"cutmix_seg_voc_{a.ratio}" + "_color" * a.color + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.unlabeled = "all"
  c.data.crop = (321, 321)
  c.data.augment = "advsemiseg"
  c.data.scales = tuple(k / 10 for k in range(5, 16))

  presets.cutmix_seg_published(c, a.color, a.quirks)
  c.optimizer.learning_rate = 3e-6

  c.train.batch_labeled = 10
  c.train.batch_unlabeled = 10
  if a.method == "supervised":
    presets.supervised(c)
  return c
