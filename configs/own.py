"""Pictures of your own: any method, any backbone, any list of labeled pictures.

    python -m data_prep.folder --images photos --labels masks --classes classes.txt \\
        --holdout 0.1 --out data/mine
    python -m semiseg_jax.main --config=configs/own.py:method=unimatch --workdir=runs/mine \\
        --config.data.root=data/mine --config.model.pretrained=""

The schedule is that of CPS on PASCAL VOC at half its length, whole pictures are evaluated.  Look at
`data.crop` (pictures that are much larger or smaller), `train.steps` and `eval.mode` first.  The
backbone's weights are read from data/weights/BACKBONE, which `data_prep.pretrained` writes;
--config.model.pretrained="" trains from scratch.

`ratio=labeled` takes all pictures that have a label; the others take lists that
`python -m data_prep.splits --dataset data/mine --of labeled --rule random --ratio 8 --add` makes.
Any other list: --config.data.labeled=NAME or a text file.

Arguments: method=cps_cutmix|supervised|unimatch or any other of configs/methods.py,
backbone=resnet50_v1s|mobilenet_v2|dinov2_small or another, ratio=labeled|1_16|1_8|1_4|1_2,
add=no|pixel_contrast|pixel_contrast_memory: on top of the method.
"""

from ml_collections import ConfigDict

from configs import methods, networks, presets
from semiseg_jax.config import schema
from semiseg_jax.models import network


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    method=methods.argument(),
    add=presets.ADDED,
    backbone=presets.Choice("resnet50_v1s", tuple(network.BACKBONES)),
    ratio=presets.Choice("labeled", ("labeled", *presets.RATIOS)),
  )
  c = schema.default()
  c.name = f"{a.method}_own_{a.ratio}_{a.backbone}"

  c.data.root = "data/mine"
  c.data.labeled = a.ratio if a.ratio == "labeled" else presets.ratio_list(a.ratio)

  c.optimizer.learning_rate = 0.0025
  c.optimizer.weight_decay = 4e-4

  c.train.steps = 20_000

  c.eval.every = 2000
  c.eval.mode = "whole"

  networks.fit(c, a.backbone)
  methods.choose(c, a.method, methods.Task(), a.add)
  return c
