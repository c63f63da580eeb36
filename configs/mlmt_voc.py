"""MLMT on PASCAL VOC 2012 (TPAMI 2021): a classifier of whole pictures, 16 + 80 a step, 320x320.

    python -m data_prep.splits --dataset data/voc --of train_aug --rule first \\
        --order splits/voc/split_0.pkl --ratio 50 20 8 \\
        --add labeled_s4gan_1_50 labeled_s4gan_1_20 labeled_s4gan_1_8
    python -m semiseg_jax.main --config=configs/mlmt_voc.py:ratio=1_8 --workdir=runs/mlmt \\
        --config.data.root=data/voc --config.model.pretrained=data/weights/resnet101
    python -m semiseg_jax.evaluate --workdir=runs/s4gan --gate=runs/mlmt

The lists are those of s4gan_voc.py.  The last command takes the classes that the teacher does not
see from the segmentation of another run on the same classes; `--gate_rule=logit_zero` as
released.  Published mIoU of s4GAN without and with it (val, weights of ImageNet), quoted from
memory: 58.1 / 60.4, 60.9 / 62.9, 65.4 / 67.3 at 1/50, 1/20, 1/8, and 71.1 / 73.2 with all
labels.  Not reproduced here yet.

100 epochs of the labeled pictures.  What differs: the rate falls at every step, there after every
epoch; the classes of a picture are those of its labeled pixels, there of lists.

Arguments: ratio=1_50|1_20|1_8|full, method=mlmt|supervised.
"""

from ml_collections import ConfigDict

from configs import networks, presets
from semiseg_jax.config import schema

# Steps of an epoch: 211, 529, 1322 and 10,582 pictures, the last batch of an epoch filled up.
EPOCH = {"1_50": 14, "1_20": 34, "1_8": 83, "full": 662}
EPOCHS = 100


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg, ratio=presets.Choice("1_8", tuple(EPOCH)), method=presets.method("mlmt")
  )
  c, epoch = schema.default(), EPOCH[a.ratio]
  c.name = f"mlmt_voc_{a.ratio}"

  c.data.root = "data/voc"
  c.data.train = "train_aug"
  c.data.labeled = f"labeled_s4gan_{a.ratio}"
  if a.ratio == "full":
    c.data.labeled, c.data.unlabeled = c.data.train, "all"
  c.data.crop = (320, 320)

  networks.choose(c.model, "mlmt", 101)
  c.model.pretrained = "data/weights/resnet101"

  presets.mlmt(c, epoch, EPOCHS)

  c.train.steps = EPOCHS * epoch
  c.train.batch_labeled = 16
  c.train.batch_unlabeled = 80

  c.eval.every = 5 * epoch
  if a.method == "supervised":
    presets.mlmt_baseline(c)
  return c
