"""CamVid at half size (11 classes, 240x180): every method at equal steps, a bench for two cores.

    python -m data_prep.shrink --images camvid/images --labels camvid/labels --times 2 \\
        --out camvid_half
    python -m data_prep.folder --images camvid_half/images --labels camvid_half/labels \\
        --classes camvid/classes.json --list train=camvid/train.txt --list val=camvid/val.txt \\
        --out data/camvid_half
    python -m data_prep.splits --dataset data/camvid_half --matching '^0001TP' --add
    python -m data_prep.splits --dataset data/camvid_half --of train_rest --rule random \\
        --ratio 16 8 4 2 --add
    python -m semiseg_jax.main --config=configs/camvid.py:method=cps_cutmix --workdir=runs/camvid
    python -m semiseg_jax.evaluate --workdir=runs/camvid --split val held_out
    python -m semiseg_jax.evaluate --workdir=runs/camvid --split val held_out --network=mean

Pictures of val are one stretch of one video of which others are trained on.  The video 0001TP, at
dusk, is held out as a second validation set: neither its labels nor its pictures are trained on.
Of the 305 others 1/8 are 39.

Every method takes as many optimizer steps on as many labeled pictures; the last checkpoint counts.
ratio=full is the ceiling: all 305 are labeled, and method=supervised without it the floor.
Self-training trains its teacher for as many steps before its student; the networks of CPS learn
from labels alone in the first third.  What was tried, and what it scored: camvid.md.

Arguments: ratio=1_16|1_8|1_4|1_2|full, method=cps_cutmix|supervised|unimatch or any other of
configs/methods.py, backbone=mobilenet_v2|efficientnet_lite0 or another, steps=3000,
add=no|pixel_contrast|pixel_contrast_memory: on top of it.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models import network


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", (*presets.RATIOS, "full")),
    backbone=presets.Choice("mobilenet_v2", tuple(network.BACKBONES)),
    method=methods.argument(),
    add=presets.ADDED,
    steps=presets.Text("3000"),
  )
  c = schema.default()
  c.name = f"{a.method}_camvid_half_{a.ratio}_{a.backbone}"

  c.data.root = "data/camvid_half"
  c.data.train = "train_rest"
  c.data.labeled = c.data.train if a.ratio == "full" else presets.ratio_list(a.ratio)
  c.data.crop = (128, 128)

  c.optimizer.learning_rate, c.optimizer.head_multiplier = 0.005, 10.0
  c.optimizer.weight_decay = 4e-4

  # Schedules of methods follow from the argument, not from --config.train.steps.
  c.train.steps = _steps(a.steps)
  c.train.batch_labeled = c.train.batch_unlabeled = 4

  c.eval.mode = "whole"

  c.checkpoint.every = max(1, c.train.steps // 6)

  networks.fit(c, a.backbone)
  if c.model.head == "deeplabv3plus":
    c.model.deeplabv3plus.aspp_width = c.model.deeplabv3plus.decoder_width = 64
  if a.backbone in ("efficientnet_lite0", "efficientnet_lite2"):  # as their weights were trained
    c.data.mean, c.data.std = (127 / 255,) * 3, (128 / 255,) * 3

  task = methods.Task(cutmix=1.5, start_steps=c.train.steps // 3, stuff=tuple(range(8)), cutout=25)
  methods.choose(c, a.method, task, a.add)
  if a.ratio == "full" and "unlabeled" in contract.sources(c):
    c.data.unlabeled = "all"
  return c


def _steps(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise ConfigError(f"argument steps={text!r}: a number of steps from 1 on.")
  return int(text)
