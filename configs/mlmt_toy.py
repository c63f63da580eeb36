"""MLMT on the toy city: a tiny classifier of whole pictures, the gate of another run there.

    python -m semiseg_jax.main --config=configs/mlmt_toy.py --workdir=runs/mlmt_toy
    python -m semiseg_jax.evaluate --workdir=runs/cps_toy --gate=runs/mlmt_toy

Arguments: ratio=1_16|1_8|1_4|1_2, method=mlmt|supervised.
"""

from ml_collections import ConfigDict

from configs import cps_toy, presets
from semiseg_jax.config import schema

EPOCHS = 25  # of 60 steps


def get_config(arg: str | None = None) -> ConfigDict:
  a = presets.arguments(
    arg, ratio=presets.Choice("1_16", presets.RATIOS), method=presets.method("mlmt")
  )
  c = schema.default()
  c.name = f"mlmt_toy_{a.ratio}"

  toy = cps_toy.get_config(f"ratio={a.ratio}")
  for key in ("root", "prepare", "labeled", "workers"):
    c.data[key] = toy.data[key]
  c.data.crop = (64, 128)

  c.model.backbone = "tiny"
  c.model.head = "classifier"

  c.train.steps = 60 * EPOCHS
  c.train.batch_labeled = 8
  c.train.batch_unlabeled = 16

  presets.mlmt(c, 60, EPOCHS)

  c.eval.every = 500
  c.checkpoint.every = 500
  c.runtime.cpu_xla_flags = toy.runtime.cpu_xla_flags
  if a.method == "supervised":
    presets.mlmt_baseline(c)
  return c
