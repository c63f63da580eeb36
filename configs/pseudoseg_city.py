"""PseudoSeg on Cityscapes, 8 + 8 crops of 801x801 on the schedule of UniMatch; not published.

    python -m semiseg_jax.main --config=configs/pseudoseg_city.py:ratio=1_8 \\
        --workdir=runs/pseudoseg --config.data.root=data/cityscapes \\
        --config.model.pretrained=data/weights/resnet50_v1s

Its authors have no number for Cityscapes.  No class of it is background, so that every class has a
map of its own; most classes are in most crops, so that image labels say less than on VOC.  Network,
crops, optimizer, steps and the loss on labeled pictures are those of unimatch_city.py.

Arguments: ratio=1_16|1_8|1_4|1_2, method=pseudoseg|supervised, backbone=resnet50_v1s|resnet101_v1s.
"""

from ml_collections import ConfigDict

from configs import presets, unimatch_city
from semiseg_jax.config import schema


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    method=presets.method("pseudoseg"),
    backbone=presets.Choice("resnet50_v1s", ("resnet50_v1s", "resnet101_v1s")),
  )
  c = unimatch_city.get_config(f"ratio={a.ratio},backbone={a.backbone}")
  c.name = f"pseudoseg_city_{a.ratio}_{a.backbone}"

  c.method.threshold = schema.default().method.threshold  # PseudoSeg has none
  presets.pseudoseg(c)
  c.method.pseudoseg.background = False
  c.method.pseudoseg.cutout = 156  # the published share of the side
  if a.method == "supervised":
    presets.supervised(c)
  return c
