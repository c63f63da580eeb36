"""How long a run takes on this machine, said after its first steps, and what less would save."""

import time
from typing import Any

import jax
from ml_collections import ConfigDict

_TIMED = 5  # steps; the first one or two compile and fill the queue of batches


class Estimate:
  """Times a few steps of the run itself, input included; prints once, on process 0.

  Args of the constructor:
    config: of the run.
    start: the first step of this start.
  """

  def __init__(self, config: ConfigDict, start: int):
    self._config, self._start = config, start
    self._phase: frozenset[str] | None = None
    self._began: tuple[int, float] | None = None
    self._done = config.train.steps - start < 4 * _TIMED  # it is over before that

  def take(self, t: int, phase: frozenset[str], result: Any) -> None:
    """To be called after step t was dispatched; waits for its `result` where a time is taken."""
    if self._done:
      return
    if phase != self._phase:  # another program: it compiles now
      self._phase, self._began = phase, None
      return
    if self._began is None:
      jax.block_until_ready(result)
      self._began = (t, time.monotonic())
    elif t == self._began[0] + _TIMED:
      jax.block_until_ready(result)
      self._done = True
      if not jax.process_index():
        left = self._config.train.steps - t - 1
        print("\n".join(lines(self._config, (time.monotonic() - self._began[1]) / _TIMED, left)))


def lines(config: ConfigDict, seconds: float, left: int) -> list[str]:
  """Returns what a run takes, and what smaller choices would take and cost.

  Args:
    config: of the run.
    seconds: of a step.
    left: steps to go.
  """
  crop, steps = tuple(config.data.crop), config.train.steps
  smaller = tuple(max(32, round(side * 0.7 / 32) * 32) for side in crop)
  area = smaller[0] * smaller[1] / (crop[0] * crop[1])
  told = [
    f"  time       {seconds:.2f} s a step at first: {left} steps to go take about "
    f"{spoken(seconds * left)} on this machine, evaluations not counted",
    f"  less       --config.train.steps={steps // 2}: {spoken(seconds * steps / 2)} in all; fewer "
    "passes over the pictures, which costs rare classes first",
  ]
  if area < 1:
    told.append(
      f'  less       --config.data.crop="{smaller}": {spoken(seconds * steps * area)}; the network '
      "sees less around a pixel, which costs large objects"
    )
  if config.method.name != "supervised":
    told.append(
      "  less       method=supervised, one network on labeled pictures alone: a third of the time "
      "or less; it costs what the unlabeled pictures teach"
    )
  told.append("  less       all of these begin another run: they need another --workdir")
  return told


def spoken(seconds: float) -> str:
  """Returns a length of time in words, to two digits."""
  for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
    if seconds >= 1.5 * size:
      number = seconds / size
      return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
  return f"{seconds:.0f} s"
