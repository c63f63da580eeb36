"""Training called from Python, in a notebook for instance: an exception where a command would end.

What a process sets once is left to the caller: XLA_FLAGS (of `runtime.cpu_xla_flags`), jax's
compilation cache, several processes.  Ctrl-C in the main thread ends the run after its step, saved;
a second one raises KeyboardInterrupt.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.config import command_line, rules
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import described, result_files
from semiseg_jax.training import prepare
from semiseg_jax.workdir import store
from semiseg_jax.workdir.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run left.

  Attributes:
    workdir: of the run; `load_predictor` takes it.
    step: of its last checkpoint.
    complete: whether that is the last step; the same call goes on where it is not.
    scores: of the evaluation of that step, as its JSON file has them ('miou', 'iou' by class, ...),
      fractions; empty where nothing was evaluated.
  """

  workdir: str
  step: int
  complete: bool
  scores: dict[str, Any]


def run(
  loop: Callable[[ConfigDict, str], None],
  config: ConfigDict | str,
  workdir: str | os.PathLike,
  *changes: str,
) -> Result:
  """Trains in `workdir`, or goes on there, as `semiseg train` does.

      config = semiseg_jax.load_config("configs/cps_toy.py:method=unimatch")
      config.train.steps = 3000
      result = semiseg_jax.train(config, "runs/unimatch")

  Args:
    loop: trains what a config says in a work directory.
    config: an experiment, or 'FILE.py:key=value,...'.
    workdir: folder of the run.
    *changes: 'train.steps=3000' each, with a file.

  Raises:
    UserError: one of its kinds, with what is wrong, where, and how to mend it.
  """
  if isinstance(config, str):
    config = command_line.load(config, *changes)
  elif changes:
    raise ConfigError(f"{', '.join(changes)}: set the key in the config itself.")
  rules.validate(config)
  prepare.prepare(config)
  workdir = os.fspath(workdir)
  loop(config, workdir)
  return _result(workdir)


def _result(workdir: str) -> Result:
  with store.opened(workdir, writes=False) as folder:
    return _result_of(workdir, described.last_stage(folder))


def _result_of(workdir: str, folder: pathlib.Path) -> Result:
  saved = Checkpoints(folder, read_only=True)
  try:
    step = max(saved.steps(), default=0)
    last = saved.meta(step)["config"]["train"]["steps"] if step else None
  finally:
    saved.close()
  files = (folder / "evaluations").glob(f"*_step_{step}_*.json")
  newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=None)
  scores = result_files.read(newest) if newest else {}
  return Result(workdir, step, step == last, scores)
