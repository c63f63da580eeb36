"""Runs in several stages: each is a run of its own in a folder of the work directory.

The same command goes on wherever it was stopped: a stage that is complete is not trained again, and
artefacts between stages are written whole or not at all.
"""

import json
import pathlib
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from semiseg_jax import files
from semiseg_jax.evaluation.described import STAGES
from semiseg_jax.methods.contract import Stage


def run(
  stages: Sequence[Stage],
  configs: Sequence[ConfigDict],
  workdir: str,
  train: Callable[[ConfigDict, str, bool], bool],
) -> None:
  """Trains all stages.

  Args:
    stages: in order.
    configs: of each stage, as `staged` gives them.
    workdir: of the whole run.
    train: (config, work directory, whether it is the last stage) -> whether it is complete.
  """
  root = pathlib.Path(workdir)
  if jax.process_index() == 0:
    root.mkdir(parents=True, exist_ok=True)
    names = {"stages": [stage.name for stage in stages]}
    files.write_text(root / STAGES, json.dumps(names) + "\n")
  for number, (stage, config) in enumerate(zip(stages, configs, strict=True), 1):
    folder = root / stage.name
    if jax.process_index() == 0:
      print(f"Stage {number} of {len(stages)}: {stage.name}, in {folder}.", flush=True)
    if not train(config, str(folder), number == len(stages)):
      return
    if stage.then is not None:
      stage.then(config, str(folder), workdir)


def staged(config: ConfigDict, stage: Stage, workdir: str) -> ConfigDict:
  """Returns the config of a stage: `{workdir}` in a changed text stands for the work directory."""
  changed = ConfigDict(config.to_dict())
  fill = lambda value: value.format(workdir=workdir) if isinstance(value, str) else value
  changed.update_from_flattened_dict({k: fill(v) for k, v in stage.changes.items()})
  changed.name = f"{config.name}, {stage.name}"
  return changed
