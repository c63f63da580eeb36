"""The first command: CPS beside labels alone, on the toy town.

    python -m semiseg_jax.main --config=configs/cps_town.py --workdir=runs/cps_town
    python -m semiseg_jax.main --config=configs/cps_town.py:method=mean_teacher --workdir=runs/mt

The data set is made when it is missing: the toy city in small, without what is thin, six classes.
The end says and draws what the unlabeled pictures were worth.  Measured, seeds 0 to 2, 110 s of
processor time each on two cores: 15 labels alone 53.5, 51.7 and 53.2 mIoU, with 465 unlabeled
pictures 56.3, 55.6 and 55.5.
Arguments: ratio=1_32|1_16|1_8|1_4|1_2, method=cps|supervised|unimatch or any other of
configs/methods.py, baseline=yes|no: labels alone beside it.
"""

from ml_collections import ConfigDict

from configs import cps_toy, methods, presets
from semiseg_jax.methods import contract

TASK = methods.Task(
  cps=1.0, cutmix=1.0, distance=10.0, ramp_steps=300, stuff=tuple(range(5)), tiny=True
)


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg,
    ratio=presets.Choice("1_32", (*presets.RATIOS, "1_32")),
    method=methods.argument("cps"),
    baseline=True,
  )
  c = cps_toy.base()
  c.name = f"{a.method}_town_{a.ratio}" + "_no_baseline" * (not a.baseline)

  c.data.root = "data/toy_town"
  c.data.prepare = "toy_town"
  c.data.labeled = presets.ratio_list(a.ratio)
  c.data.crop = (48, 48)

  c.optimizer.name = "adamw"  # tuned on labels alone, as steps, crop and rate
  c.optimizer.learning_rate = 3e-3
  c.optimizer.weight_decay = 1e-2

  c.train.steps = 1500

  c.eval.every = 0
  c.eval.pictures = 4
  c.checkpoint.every = 500

  methods.choose(c, a.method, TASK)
  c.train.baseline = a.baseline and "unlabeled" in contract.sources(c)
  return c
