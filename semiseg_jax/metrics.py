"""Metrics of the step: (sum, count) pairs, one small array across the border, divided once."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Pairs = Mapping[str, tuple[Any, Any]]


def pack(metrics: Pairs) -> jax.Array:
  """Returns all sums and counts as one float32 vector, in the order of the names."""
  parts = [
    jnp.ravel(jnp.asarray(x, jnp.float32)) for name in sorted(metrics) for x in metrics[name]
  ]
  return jnp.concatenate(parts)


class Averages:
  """Adds packed metrics on the host in float64 and divides once.

  Args of the constructor: the metrics of one step as shapes (from `jax.eval_shape`).
  """

  def __init__(self, shapes: Pairs):
    self._names = sorted(shapes)
    self._sizes = [max(1, int(np.prod(np.shape(shapes[name][0])))) for name in self._names]
    self.reset()

  def reset(self) -> None:
    """Forgets everything added."""
    self._sums = {name: 0.0 for name in self._names}
    self._counts = {name: 0.0 for name in self._names}

  def add(self, packed: np.ndarray) -> dict[str, float]:
    """Adds one step and returns its scalar metrics."""
    values, start, now = np.asarray(packed, np.float64), 0, {}
    for name, size in zip(self._names, self._sizes):
      total, count = values[start : start + size], values[start + size]
      start += size + 1
      self._sums[name] = self._sums[name] + total
      self._counts[name] += count
      if size == 1:
        now[name] = float(total[0] / count) if count else float("nan")
    return now

  def means(self) -> dict[str, np.ndarray]:
    """Returns sum / count per name, [size]; names that nothing was counted for are left out."""
    return {
      name: self._sums[name] / self._counts[name] for name in self._names if self._counts[name]
    }
