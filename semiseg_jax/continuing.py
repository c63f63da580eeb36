"""A complete run that is started again: with more steps it goes on, with the same it is done."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from semiseg_jax import segments
from semiseg_jax.arguments import command
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import result_files, told_protocol
from semiseg_jax.methods.contract import Stage
from semiseg_jax.wording import counted
from semiseg_jax.workdir import checkpoints, store

_STEPS, _CONTINUED = "train.steps", "optimizer.continued"


def extended(config: ConfigDict, workdir: str) -> ConfigDict:
  """Returns the config of a run whose `train.steps` may have been raised since its last start.

  `optimizer.continued` is taken from the checkpoints, and gets a text more where the run is
  complete and has fewer steps than the config.

  Args:
    config: of this start.
    workdir: of the run.

  Raises:
    ConfigError: steps that were raised before the run was complete, or no word on how the learning
      rate goes on.
  """
  found = checkpoints.newest(workdir)
  if found is None:
    return config
  step, meta = found
  saved = schema.flat(schema.complete(meta["config"]))
  before, planned = saved[_CONTINUED], saved[_STEPS]
  if config.train.steps < planned:  # another run, which is told when they are compared
    return config
  continued = config.optimizer.continued or before
  if config.train.steps > planned and continued == before:
    if step < planned:
      raise ConfigError(
        f"{workdir} is at step {step} of {planned}, and its learning rate depends on where it "
        f"ends: let it come there with --config.train.steps={planned}, then raise them."
      )
    continued = (*before, _raise(config, workdir, planned))
  if continued == config.optimizer.continued:
    return config
  changed = ConfigDict(config.to_dict())
  changed.optimizer.continued = continued
  return changed


def keep_stages(stages: Sequence[Stage], steps: int, workdir: str) -> list[Stage]:
  """Returns the stages, those that are complete with fewer steps than the run's with their own.

  Raised `train.steps` so go to the last stage alone: what was learned from the others stays.

  Args:
    stages: in order.
    steps: `train.steps` of the run.
    workdir: of the whole run.
  """
  found = list(stages)
  for i, stage in enumerate(stages[:-1]):
    saved = checkpoints.newest(str(pathlib.Path(workdir) / stage.name)) if stage.follows else None
    if saved is None:
      continue
    step, meta = saved
    planned = meta["config"]["train"]["steps"]
    if step != planned or planned >= steps:
      continue
    found[i] = dataclasses.replace(stage, changes={**stage.changes, _STEPS: planned})
    if jax.process_index() == 0:
      print(
        f"  NOTE       {stage.name} keeps its {counted(planned, 'step')}; the last stage has "
        f"{steps}"
      )
  return found


def _raise(config: ConfigDict, workdir: str, end: int) -> str:
  o = config.optimizer
  if not o.continuation and o.schedule != "constant":
    raise ConfigError(
      f"{workdir} is complete after {counted(end, 'step')}, where the learning rate of "
      "optimizer.schedule="
      f"{o.schedule!r} has come to its end. Say how it goes on to {config.train.steps}: "
      "--config.optimizer.continuation=restart (the schedule again from its peak), cosine (down "
      f"from {o.continuation_share:g} of the peak) or constant (at {o.continuation_share:g} of it; "
      "--config.optimizer.continuation_share)."
    )
  kind = o.continuation or segments.RESTART
  return segments.text(end, kind, 1.0 if kind == segments.RESTART else o.continuation_share)


def as_now(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the nested config `saved`, with the end of `now` where that begins with it."""
  old, new = schema.flat(saved), schema.flat(now)
  before, after = tuple(old[_CONTINUED]), tuple(new[_CONTINUED])
  if len(after) > len(before) and after[: len(before)] == before:
    if segments.of(after, new[_STEPS])[len(before)].stop == old[_STEPS]:
      old |= {key: new[key] for key in (_STEPS, _CONTINUED)}
  return schema.nested(old)


def result(workdir: str, step: int, protocol: Mapping[str, Any], sha256: str) -> str | None:
  """Returns the file with the evaluation of a step, None where there is none.

  Args:
    workdir: of the run.
    step: of the checkpoint.
    protocol: as plain values.
    sha256: of the evaluated list.
  """
  wanted = told_protocol.completed(protocol)
  for file in sorted((pathlib.Path(workdir) / "evaluations").glob("*.json")):
    try:
      fields = result_files.read(file)
      same = fields["checkpoint_step"] == step
      if (
        same
        and told_protocol.completed(fields["protocol"]) == wanted
        and fields["split"]["sha256"] == sha256
      ):
        return str(file)
    except (OSError, ValueError, KeyError, TypeError):  # written by something else, or damaged
      continue
  return None


def print_done(
  config: ConfigDict, workdir: str, evaluation: str | None, last_stage: bool = True
) -> None:
  """Says that there is nothing left to do, and after the last stage what could come next."""
  if jax.process_index():
    return
  steps = config.train.steps
  lines = [f"  complete   {counted(steps, 'step is', 'steps are')} done; nothing is computed again"]
  if evaluation:
    lines.append(f"  result     {evaluation}")
  following = [
    f"  evaluate   {command('semiseg_jax.evaluate')} --workdir={workdir}",
    f"  train on   the same command with --config.train.steps={2 * steps} "
    f"--config.optimizer.continuation={'|'.join(segments.KINDS)}",
  ]
  print(store.named("\n".join(lines + following * last_stage)), flush=True)
