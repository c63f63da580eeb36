"""A run of two small checkpoints, for what damages them and reads them again."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.state import TrainState
from semiseg_jax.workdir.checkpoints import Checkpoints

SCORES = {2: 0.25, 3: 0.5}  # step -> mIoU


def state(step: int) -> TrainState:
  """A state of few numbers, others at each step."""
  rng = np.random.default_rng(step)
  params = {"networks": {"conv": {"kernel": rng.normal(size=(2, 3, 4)).astype(np.float32)}}}
  stats = {"networks": {"bn": {"mean": rng.normal(size=(2, 5)).astype(np.float32)}}}
  return jax.tree.map(jnp.asarray, TrainState(np.int32(step), params, stats, {}, (params,)))


def write(workdir: pathlib.Path, meta: dict[str, Any]) -> pathlib.Path:
  """Writes the checkpoints of the steps of SCORES; the folder."""
  saved = Checkpoints(workdir)
  for step, miou in SCORES.items():
    saved.save(state(step), meta, miou)
  saved.close()
  return workdir


def read_model(workdir: pathlib.Path) -> tuple[dict[str, Any], int | None, Any]:
  """What evaluate, predict and export read of step 3: description, best step, (params, stats)."""
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
    (state(0).params["networks"], state(0).stats["networks"]),
  )
  reader = Checkpoints(workdir, read_only=True)
  try:
    return reader.meta(3), reader.best_step(), reader.restore_model(3, {"networks": shapes})
  finally:
    reader.close()
