"""The description of a checkpoint: one JSON item under one seal, the same for every reader."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from semiseg_jax import seals
from semiseg_jax.errors import CheckpointError

FORMAT = 3  # 1: no networks in it, the memory in 'state' of 'train'; 2: no step, score, seal
_UNSEALED = (None, 1, 2)
_FILE = ("meta", "metadata")  # where Orbax puts the item
_WHERE = "/".join(_FILE)
_ALWAYS = ("config", "checksums")  # what every description says
_ITEMS = ("model", "train", "meta", "metrics")
_ORBAX = re.compile(r"_.*|commit_success\.txt|descriptor|\..*")
_UNFINISHED = ".orbax-checkpoint-tmp"


def make(
  meta: Mapping[str, Any],
  *,
  step: int,
  sums: Mapping[str, int],
  miou: float | None,
  versions: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns what the item `meta` of a checkpoint holds.

  Args:
    meta: what is said of the run.
    step: of the checkpoint.
    sums: the checksums of its numbers, by part.
    miou: of this step, None where it was not evaluated.
    versions: that wrote it.
  """
  own = {"format": FORMAT, "step": step, "miou": miou, "checksums": sums, "versions": versions}
  return seals.sealed({**meta, **own})


def read(folder: epath.Path) -> dict[str, Any]:
  """Returns the description of the checkpoint in `folder`, named by its step.

  Raises:
    CheckpointError: it is missing or damaged; says how, without the folder.
  """
  try:
    found = json.loads(folder.joinpath(*_FILE).read_text())
  except FileNotFoundError as error:
    raise CheckpointError(f"{_WHERE} is missing") from error
  except (OSError, ValueError, RecursionError) as error:
    raise CheckpointError(f"{_WHERE} cannot be read ({str(error)[:200]})") from error
  wrong = problem(found, folder.name)
  if wrong:
    raise CheckpointError(f"{_WHERE}: {wrong}")
  return found


def problem(found: Any, step: str) -> str:
  """Returns what is wrong with a description in the folder `step`, "" where nothing is."""
  if not isinstance(found, dict):
    return "nothing is left"
  required = found.get("format") not in _UNSEALED
  wrong = seals.problem(found, required=required)
  if wrong:
    return wrong
  absent = [part for part in _ALWAYS if not isinstance(found.get(part), dict)]
  if absent:
    return f"{', '.join(absent)} is missing"
  if required and str(found.get("step")) != step:
    return f"the step is {found.get('step')}: the folder was renamed or copied"
  return ""


def score(folder: epath.Path, saved: Any) -> tuple[float | None, str]:
  """Returns the mIoU of a checkpoint, None without one, and what is wrong with it, or "".

  A sealed description has the score; what Orbax saved beside it counts for older ones only.

  Args:
    folder: of the checkpoint.
    saved: what Orbax's file of scores holds, None where there is no such file.
  """
  beside = saved.get("miou") if isinstance(saved, dict) else None
  beside = beside if is_score(beside) else None
  try:
    known = read(folder)
  except CheckpointError as error:
    return None, str(error)  # without its description a checkpoint is of no use
  if seals.SEAL not in known:
    return beside, "" if saved is None or beside is not None else "its score is damaged"
  wrong = "" if beside == known["miou"] else "its score beside the description is damaged"
  return known["miou"], wrong


def is_score(value: Any) -> bool:
  """Whether a value is an mIoU, from 0 to 1."""
  return isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1


def strangers(path: epath.Path) -> list[str]:
  """Returns what lies in the folder of checkpoints, or in one of them, and is none of theirs."""
  found = []
  for entry in sorted(path.iterdir()):
    if entry.name.isdigit() and str(int(entry.name)) == entry.name and entry.is_dir():
      inside = sorted(part.name for part in entry.iterdir())
      odd = [name for name in inside if name not in _ITEMS and not _ORBAX.fullmatch(name)]
      found += [f"{entry.name}/{name}" for name in odd]
    elif _UNFINISHED not in entry.name and not _ORBAX.fullmatch(entry.name):
      found.append(entry.name)
  return found
