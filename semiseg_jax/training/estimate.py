"""How long a run takes on this machine, said after its first steps, and what less would save.

The first steps of the run are the timed ones: nothing is computed for the estimate.
"""

import math
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.evaluation import protocol
from semiseg_jax.methods.method import Method
from semiseg_jax.wording import counted

_LEAST, _MOST = 2, 20  # timed steps
_SECONDS = 4.0  # that are worth timing
_SHORT = 20  # steps of a run of which nothing is said
LONG = 12 * 3600.0  # seconds from which on a smaller choice is asked for
_UNIT = 32  # pixels; crops keep what they have beside a multiple of it


class Estimate:
  """Times the first steps of the run itself, input included; prints once, on process 0.

  Args of the constructor:
    config: of the run.
    start: the first step of this start.
    evaluation: see `evaluation_cost`.
    stage: whether the run is a stage of another one.
  """

  def __init__(self, config: ConfigDict, start: int, evaluation: float = 0.0, stage: bool = False):
    self._config, self._evaluation, self._stage = config, evaluation, stage
    self._phase: frozenset[str] | None = None
    self._began, self._count = 0.0, 0
    self._done = config.train.steps - start < _SHORT  # it is over before that

  def take(self, t: int, phase: frozenset[str], result: Any) -> None:
    """To be called after step t was dispatched; waits for its `result` until the time is known."""
    if self._done:
      return
    jax.block_until_ready(result)
    if phase != self._phase:  # this step's program was compiled
      self._phase, self._began, self._count = phase, time.monotonic(), 0
      return
    self._count += 1
    elapsed = time.monotonic() - self._began
    if self._count < _LEAST or (elapsed < _SECONDS and self._count < _MOST):
      return
    self._done = True
    if not jax.process_index():
      seconds = elapsed / self._count
      found = lines(self._config, seconds, t + 1, self._evaluation, stage=self._stage)
      print("\n".join(found), flush=True)


def evaluation_cost(
  config: ConfigDict, method: Method, dataset: Dataset, val: IdList | None
) -> float:
  """Returns how many steps of training an evaluation takes about as long as.

  By pixels, each as often as a network sees it: a network of a step computes forward and back,
  which costs three times as much as forward alone.  Pictures of a tfds build, whose sizes are not
  known before they are read, count like crops.
  """
  if val is None:
    return 0.0
  how = protocol.from_config(config.eval)
  sizes = dict(zip(dataset.info.ids, dataset.info.sizes))
  seen = sum(how.pixels(*sizes.get(name, config.data.crop)) for name in val.ids)
  named = 1 + how.network.count(",")
  evaluated = config.method.networks if how.network == "mean" else named
  trained = sum(method.stacks[name].n for name in method.stacks_of("trained"))
  step = sum(stream.batch for stream in method.streams) * math.prod(config.data.crop) * trained
  return seen * evaluated / (3 * step)


def lines(
  config: ConfigDict, seconds: float, done: int, evaluation: float = 0.0, *, stage: bool = False
) -> list[str]:
  """Returns what a run takes, and what smaller choices would take and cost.

  Args:
    config: of the run.
    seconds: of a step.
    done: steps that are done.
    evaluation: of how many steps an evaluation takes the time.
    stage: whether the run is a stage of another one, whose steps may have other keys.
  """
  steps, every = config.train.steps, config.eval.every
  count = _evaluations(steps, every, done) if evaluation else 0
  to_go = seconds * (steps - done)
  total = to_go + seconds * evaluation * count
  found = [
    f"  time       {spoken(total)} to go on this machine: {counted(steps - done, 'step')} of "
    f"{seconds:.2g} s "
    + (f"and {counted(count, 'evaluation')} of {spoken(seconds * evaluation)} " if count else "")
    + ("in this stage" if stage else "(the first steps, timed)")
  ]
  if config.derived or total > LONG:
    whole = seconds * (steps + evaluation * (_evaluations(steps, every, 0) if evaluation else 0))
    found += _less(config, whole, stage)
  return found + (_too_long(config, total, stage) if total > LONG else [])


def _evaluations(steps: int, every: int, done: int) -> int:
  """How many there are after step `done`; the last step is always evaluated."""
  regular = steps // every - done // every if every > 0 else 0
  return regular + (1 if every <= 0 or steps % every else 0)


def _less(config: ConfigDict, whole: float, stage: bool) -> list[str]:
  steps, found = config.train.steps, []
  if not stage:
    found.append(
      f"  less       --config.train.steps={steps // 2}: {spoken(whole / 2)} in all; fewer passes "
      "over the pictures, which costs rare classes first"
    )
  crop, area = smaller_crop(config.data.crop)
  if area < 1:
    found.append(
      f"  less       --config.data.crop={_given(crop)}: {spoken(whole * area)}; the network sees "
      "less around a pixel, which costs large objects"
    )
  if config.method.name != "supervised":
    found.append(
      "  less       method=supervised, one network on labeled pictures alone: a third of the time "
      "or less; it costs what the unlabeled pictures teach"
    )
  return [*found, "  less       all of these begin another run: they need another --workdir"]


def _too_long(config: ConfigDict, total: float, stage: bool) -> list[str]:
  crop, area = smaller_crop(config.data.crop)
  fitting = int(config.train.steps * min(1.0, LONG / (total * area)))
  changes = {"config.train.steps": str(max(1, fitting))}
  if area < 1:
    changes["config.data.crop"] = str(crop).replace(" ", "")
  said = [f"  WARNING    this run takes about {spoken(total)} on this machine"]
  if stage:
    return said
  return [
    f"{said[0]}; about {spoken(LONG)} or less takes, after Ctrl-C,",
    f"             {command(sys.argv, changes)}",
  ]


def command(argv: Sequence[str], changes: Mapping[str, str]) -> str:
  """Returns the command of another run with changed keys; from Python the changes alone.

  Args:
    argv: of this process.
    changes: flag without dashes -> value.
  """
  if pathlib.Path(argv[0]).parts[-2:] != ("semiseg_jax", "main.py"):
    return " ".join(f"{key.removeprefix('config.')}={value}" for key, value in changes.items())
  given, words = [], iter(argv[1:])
  for word in words:
    flag, equals, value = word.partition("=")
    name = flag.lstrip("-")
    if name == "workdir":
      value = value if equals else next(words, "")
      word = f"--workdir={value.rstrip('/')}_shorter"
    if name in changes:
      if not equals:
        next(words, "")
      continue
    given.append(word)
  given += [f"--{key}={value}" for key, value in changes.items()]
  return shlex.join(["python", "-m", "semiseg_jax.main", *given])


def smaller_crop(crop: Sequence[int]) -> tuple[tuple[int, ...], float]:
  """Returns a crop of about half the pixels, and its share of them; sides stay 0 or 1 modulo 32."""
  sides = []
  for side in crop:
    beside = side % _UNIT
    sides.append(min(side, max(_UNIT, round((side * 0.7 - beside) / _UNIT) * _UNIT) + beside))
  return tuple(sides), math.prod(sides) / math.prod(crop)


def _given(crop: Sequence[int]) -> str:
  return f'"{tuple(crop)}"'


def spoken(seconds: float) -> str:
  """Returns a length of time in words, to two digits."""
  for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
    if seconds >= 1.5 * size:
      number = seconds / size
      return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
  return f"{seconds:.0f} s" if seconds >= 0.95 else "less than 1 s"
