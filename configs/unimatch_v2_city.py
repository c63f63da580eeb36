"""UniMatch V2 and its FixMatch on Cityscapes as published (2025), 8 + 8 crops of 798x798.

    python -m semiseg_jax.main --config=configs/unimatch_v2_city.py:ratio=1_16 --workdir=runs/v2 \\
        --config.data.root=data/cityscapes --config.model.pretrained=data/weights/dinov2_small

Published mIoU of UniMatch V2 (val, sliding window, averaged teacher, best epoch) at 1/16, 1/8, 1/4,
1/2: small 80.6 / 81.9 / 82.4 / 82.6, base 83.6 / 84.3 / 84.5 / 85.1.  Not reproduced here yet.

What differs: the learning rate follows its schedule, where the release lags one step behind.  The
authors' own sweep has 0.3 more with --config.method.threshold=0.0.  `--config.eval.stack=` scores
the student.

Arguments: ratio=1_16|1_8|1_4|1_2, method=unimatch_v2|fixmatch_average|supervised,
add=no|pixel_contrast|pixel_contrast_memory: on top of it,
backbone=dinov2_small|dinov2_base|dinov2_large|dinov3_small|dinov3_small_plus|dinov3_base|
dinov3_large|dinov3_huge_plus, quirks=no|yes: partners, means, hard pixels and
the pictures without dropout are those among the 2 pictures of a GPU; the learning rate still has no
lag.
And protocol=NAME: val is scored as published, by unimatch_v2_city or another protocol that
`python -m semiseg_jax.evaluate --protocol=list` prints.
"""

from ml_collections import ConfigDict

from configs import methods, presets, protocols
from configs.unimatch_city import UNLABELED
from semiseg_jax.config import schema

EPOCHS, GPUS, PER_GPU = 180, 4, 2


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_8", presets.RATIOS),
    **presets.UNIMATCH_V2,
    protocol=protocols.ARGUMENT,
  )
  c = schema.default()
  c.name = f"{a.method}_city_{a.ratio}_{a.backbone}" + "_quirks" * a.quirks

  c.data.root = "data/cityscapes"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = c.eval.window = (798, 798)
  c.data.workers = 8

  presets.unimatch_v2(c, a, GPUS, PER_GPU, EPOCHS, UNLABELED[a.ratio])
  c.method.supervised_loss = "ohem"
  c.method.ohem_kept_fraction = 200_000 / (PER_GPU * 798 * 798)

  c.eval.mode = "slide"
  c.eval.stride = (532, 532)
  if a.method == "supervised":
    presets.supervised(c, double=True)
  methods.add(c, a.add, methods.Task())
  protocols.choose(c, a.protocol)
  return c
