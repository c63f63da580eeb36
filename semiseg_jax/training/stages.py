"""Runs in several stages: each is a run of its own in a folder of the work directory.

The same command goes on wherever it was stopped: a stage that is complete is not trained again, and
artifacts between stages are written whole or not at all.
"""

import json
import pathlib
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from semiseg_jax import files, seals
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation.described import STAGES
from semiseg_jax.methods.contract import Stage
from semiseg_jax.training import interrupt
from semiseg_jax.workdir import store


def run(
  stages: Sequence[Stage],
  configs: Sequence[ConfigDict],
  whole: Sequence[ConfigDict],
  workdir: str,
  train: Callable[[ConfigDict, str, bool], bool],
) -> bool:
  """Trains all stages, and returns whether all are complete.

  Args:
    stages: in order.
    configs: what each stage is trained with: that of `whole`, its unread keys at their defaults.
    whole: the config of each stage as `staged` gives it; what comes after the stage is told it.
    workdir: of the whole run.
    train: (config, work directory, whether it is the last stage) -> whether it is complete.
  """
  root = pathlib.Path(workdir)
  if jax.process_index() == 0:
    root.mkdir(parents=True, exist_ok=True)
    names = {"stages": [stage.name for stage in stages]}
    files.write_text(root / STAGES, json.dumps(seals.sealed(names)) + "\n")
  for number, (stage, config, told) in enumerate(zip(stages, configs, whole, strict=True), 1):
    folder = root / stage.name
    if jax.process_index() == 0:
      print(f"Stage {number} of {len(stages)}: {stage.name}, in {store.named(folder)}.", flush=True)
    if not train(config, str(folder), number == len(stages)):
      return False
    if interrupt.before_artifacts():
      return False
    if stage.then is not None:
      stage.then(told, str(folder), workdir)
      store.push(workdir)
  return True


def check_folder(workdir: str, *, staged: bool) -> None:
  """Raises ConfigError where a work directory holds a run of the other form."""
  root = pathlib.Path(workdir)
  if staged and (root / "checkpoints").is_dir():
    raise ConfigError(f"{workdir} holds a run of one stage: give another --workdir for this one.")
  if not staged and (root / STAGES).is_file():
    raise ConfigError(
      f"{workdir} holds a run in stages: give another --workdir, or the folder of a stage."
    )


def staged(config: ConfigDict, stage: Stage, workdir: str) -> ConfigDict:
  """Returns the config of a stage: `{workdir}` in a changed text stands for the work directory."""
  changed = ConfigDict(config.to_dict())
  fill = lambda value: value.format(workdir=workdir) if isinstance(value, str) else value
  changed.update_from_flattened_dict({k: fill(v) for k, v in stage.changes.items()})
  changed.name = f"{config.name}, {stage.name}"
  changed.train.baseline = False  # which is of the whole run
  return changed
