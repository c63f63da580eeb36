"""What the loop writes while it trains: means of the metrics, learning rate, speed, progress."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from semiseg_jax.errors import NonFiniteError
from semiseg_jax.progress import Progress
from semiseg_jax.state import TrainState
from semiseg_jax.training import metrics, optimizers
from semiseg_jax.training.feed import Prefetch
from semiseg_jax.training.profiling import CompileClock
from semiseg_jax.training.train_step import is_finite
from semiseg_jax.workdir.writers import MetricWriter

Tree = Any


class TrainingLog:
  """Reads the metrics of each step one step late, so that the device never waits for the host.

  A row has the means of the steps since the row before it, its own step the last of them; it is
  written when that step has been read.  `kept` and `recall` carry the sums of an unfinished row
  over a restart, so that rows do not depend on where a run was stopped.

  Args of the constructor:
    config: of the run.
    writer: for the means, every `train.log_every` steps.
    progress: the line on stderr.
    shapes: phase -> the shapes of the metrics of its steps; called after such a step.
    batches: knows how long the loop waited for input.
    images: in one step, over all streams.
    ids: of the pictures, by record number.
    classes: their names; metrics of each class are written under them.
    clock: of the compiler.
  """

  def __init__(
    self,
    config: ConfigDict,
    writer: MetricWriter,
    progress: Progress,
    shapes: Callable[[frozenset[str]], metrics.Pairs],
    batches: Prefetch,
    images: int,
    ids: Sequence[str],
    classes: Sequence[str],
    clock: CompileClock,
  ):
    self._config, self._writer, self._progress = config, writer, progress
    self._shapes, self._batches, self._images = shapes, batches, images
    self._ids, self._classes, self._clock = ids, classes, clock
    self._averages, self._compiled, self._due = metrics.Averages(), False, 0
    self._pending: tuple[int, frozenset[str], jax.Array, Tree] | None = None
    self._since, self._steps, self._waited = time.monotonic(), 0, 0.0

  def take(self, t: int, phase: frozenset[str], packed: jax.Array, batch: Tree) -> None:
    """Takes the metrics of step t, not yet computed, and reads those of step t - 1."""
    self.catch_up()
    self._pending = (t, phase, packed, {name: stream["index"] for name, stream in batch.items()})

  def catch_up(self) -> None:
    """Waits for the newest step and reads it.

    Raises:
      NonFiniteError: naming the step, its metrics and the pictures of its batch.
    """
    if self._pending is None:
      return
    (t, phase, packed, index), self._pending = self._pending, None
    if not self._compiled:
      self._compiled = True
      self.restart_clock()  # the first step compiled: it is no measure of speed
    else:
      self._steps += 1
    now = self._averages.add(np.asarray(packed), self._shapes(phase))
    if not now["finite"]:
      # A process sees its own rows of the batch.
      ids = {
        name: [self._ids[i] for part in rows.addressable_shards for i in np.ravel(part.data)]
        for name, rows in index.items()
      }
      raise NonFiniteError(
        f"Step {t} gave a loss or a gradient that is not finite; the checkpoints before "
        f"it are kept. Metrics: {now}. Pictures of its batch: {ids}. A lower "
        "optimizer.learning_rate or method.weight usually helps."
      )
    self._progress.update(t + 1, loss=now["loss"])
    if self._due == t + 1:
      self._write(t + 1)

  def kept(self) -> dict[str, Any]:
    """The sums of the steps read since the last row, plain JSON values."""
    return self._averages.kept()

  def recall(self, kept: Mapping[str, Any]) -> None:
    """Goes on with the sums of an earlier start."""
    self._averages.recall(kept)

  def check(self, done: int, state: TrainState) -> None:
    """Waits for all steps, and looks at what is about to be evaluated and saved.

    Raises:
      NonFiniteError: as `catch_up`, or a number of the state itself is not finite.
    """
    self.catch_up()
    if not is_finite(state):
      raise NonFiniteError(
        f"After step {done} the state is not finite, though losses and gradients were: an update "
        "or running statistics overflowed. The checkpoints before it are kept. Use a lower "
        "optimizer.learning_rate."
      )

  def restart_clock(self) -> None:
    """Leaves what happened since the last write out of the speed."""
    self._since, self._steps, self._waited = time.monotonic(), 0, self._batches.wait_s

  def write(self, done: int) -> None:
    """Writes the row of the first `done` steps, now or as soon as the last of them was read."""
    self._due = done
    if self._pending is None:
      self._write(done)

  def _write(self, done: int) -> None:
    rows = {}
    for name, mean in self._averages.means().items():
      if mean.size == 1:
        rows[f"train/{name}"] = float(mean[0])
      else:
        of_classes = mean.size == len(self._classes)
        parts = self._classes if of_classes else [f"{i:02d}" for i in range(mean.size)]
        rows.update({f"train/{name}/{part}": float(x) for part, x in zip(parts, mean)})
    o = optimizers.Options(**self._config.optimizer)
    rows["train/learning_rate"] = optimizers.rate(o, self._config.train.steps, done - 1)
    rows.update(self._speed())
    self._writer.write_scalars(done, rows)
    self._averages.reset()
    self.restart_clock()
    self._progress.update(done, images_per_s=rows.get("speed/images_per_s"))

  def _speed(self) -> dict[str, float]:
    seconds = time.monotonic() - self._since
    if not self._steps or seconds <= 0:
      return {}
    return _memory() | {
      "speed/compile_s": self._clock.seconds,
      "speed/images_per_s": self._steps * self._images / seconds,
      "speed/steps_per_s": self._steps / seconds,
      "speed/input_wait_fraction": min(1.0, (self._batches.wait_s - self._waited) / seconds),
    }


def _memory() -> dict[str, float]:
  """The largest share of this process's device memory that was ever in use, where it is known."""
  memories = (device.memory_stats() for device in jax.local_devices())
  peaks = [
    stats["peak_bytes_in_use"] for stats in memories if stats and "peak_bytes_in_use" in stats
  ]
  return {"memory/peak_gb": max(peaks) / 1e9} if peaks else {}
