"""ST and ST++ on PASCAL VOC 2012 as published (CVPR 2022), batches of 16 crops of 321x321.

    python -m semiseg_jax.main --config=configs/self_training_voc.py:ratio=366 --workdir=runs/st \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101

mIoU of ST++ (val, whole pictures, best epoch), R101, as UniMatch quotes it: 65.2 / 71.0 / 74.6 /
77.3 / 79.1 at 92 to 1464; as iMAS does: 74.5 / 76.3 / 76.6 at 1/16, 1/8, 1/4 with R101 and 72.6 /
74.4 / 75.4 with R50.  Not reproduced here yet.

Every stage begins from ImageNet's weights.  The teacher learns from 16 labeled pictures a step, a
student from 8 + 8.  The lists of 92 to 1464 are the authors' (and UniMatch's), those of 1/16 to 1/4
are of CPS, where the authors have others.  What differs: labeled and unlabeled pictures of a batch
are equally many, where the authors draw all from one list of about as many of each; labels come
from the last checkpoint; batch statistics are those of the whole batch, where each of two GPUs had
those of its 8 pictures.

Arguments: ratio=92|183|366|732|1464|1_16|1_8|1_4, method=st_plus_plus|self_training|supervised,
backbone=resnet50|resnet101, quirks=no|yes: labels come from the checkpoint of the best validation
score, of which there is one every 4000 steps, and a student's batch statistics are those of 4 + 4
pictures; the teacher's are of 4 then, where a GPU had 8.
And protocol=NAME: val is scored as published, by self_training_voc or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import augmentations, networks, presets, protocols, unimatch_voc
from semiseg_jax.config import schema
from semiseg_jax.methods import self_training

EPOCHS, PICTURES, PER_GPU = 80, 10_582, 4


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("366", tuple(unimatch_voc.UNLABELED)),
    method=presets.Choice("st_plus_plus", ("st_plus_plus", "self_training", "supervised")),
    backbone=presets.Choice("resnet101", ("resnet50", "resnet101")),
    quirks=False,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_voc_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (321, 321)
  augmentations.unimatch(c, base_size=400)

  networks.choose(c.model, "st", 50 if a.backbone == "resnet50" else 101)
  c.model.pretrained = f"data/weights/{a.backbone}"

  presets.self_training(c, ranked=a.method == "st_plus_plus")
  unlabeled = unimatch_voc.UNLABELED[a.ratio]
  presets.self_training_as_published(c, PICTURES - unlabeled, unlabeled, EPOCHS)
  if a.quirks:
    c.method.compat, c.train.bn_group = self_training.COMPAT, PER_GPU

  c.optimizer.learning_rate = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0

  c.eval.every = 4000
  c.eval.mode, c.eval.whole = "whole", "as_is"
  if a.method == "supervised":
    presets.supervised(c, double=True)
  protocols.choose(c, a.protocol)
  return c
