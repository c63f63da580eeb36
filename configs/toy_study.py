"""The toy city at length: supervised, CPS and CPS + CutMix at equal steps on 1/16 of the labels.

    for m in supervised cps cps_cutmix; do for s in 0 1 2; do
      python -m semiseg_jax.main --config=configs/toy_study.py:method=$m --config.seed=$s \\
          --workdir=runs/toy_study/${m}_$s
    done; done

Arguments: ratio=1_16|1_8|1_4|1_2, method=cps_cutmix|cps|supervised or any other of
configs/methods.py, add=no|pixel_contrast|pixel_contrast_memory: on top of it.
"""

from ml_collections import ConfigDict

from configs import cps_toy, methods, presets

METHODS = cps_toy.METHODS


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_16", presets.RATIOS),
    method=methods.argument(),
    add=presets.ADDED,
  )
  c = cps_toy.get_config(f"ratio={a.ratio},method={a.method},add={a.add}")
  c.name = c.name.replace("_toy_", "_toy_study_")

  c.train.steps = 3000
  c.train.batch_labeled = 8
  c.train.batch_unlabeled = 8

  c.eval.every = 500
  c.eval.batch = 16
  c.checkpoint.every = 1000
  return c
