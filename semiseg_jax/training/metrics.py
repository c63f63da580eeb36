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

  Steps may differ in their metrics: a phase of a method has names of its own.
  """

  def __init__(self) -> None:
    self.reset()

  def reset(self) -> None:
    """Forgets everything added."""
    self._sums: dict[str, Any] = {}
    self._counts: dict[str, float] = {}

  def add(self, packed: np.ndarray, shapes: Pairs) -> dict[str, float]:
    """Adds one step and returns its scalar metrics.

    Args:
      packed: what `pack` made of its metrics.
      shapes: of these metrics, as `jax.eval_shape` gives them.

    Raises:
      ValueError: the vector is not as long as the shapes say.
    """
    values, start, now = np.asarray(packed, np.float64), 0, {}
    sizes = {name: max(1, int(np.prod(np.shape(shapes[name][0])))) for name in sorted(shapes)}
    if len(values) != sum(sizes.values()) + len(sizes):
      raise ValueError(f"{len(values)} packed numbers are not the metrics {list(sizes)}.")
    for name, size in sizes.items():
      total, count = values[start : start + size], values[start + size]
      start += size + 1
      self._sums[name] = self._sums.get(name, 0.0) + total
      self._counts[name] = self._counts.get(name, 0.0) + count
      if size == 1:
        now[name] = float(total[0] / count) if count else float("nan")
    return now

  def kept(self) -> dict[str, Any]:
    """Returns the sums and counts as plain JSON values, which give back every bit."""
    sums = {name: np.ravel(total).tolist() for name, total in self._sums.items()}
    return {"sums": sums, "counts": {name: float(n) for name, n in self._counts.items()}}

  def recall(self, kept: Mapping[str, Any]) -> None:
    """Goes on with what `kept` gave."""
    self._sums = {name: np.array(total, np.float64) for name, total in kept["sums"].items()}
    self._counts = dict(kept["counts"])

  def means(self) -> dict[str, np.ndarray]:
    """Returns sum / count per name, [size]; names that nothing was counted for are left out."""
    return {
      name: self._sums[name] / self._counts[name]
      for name in sorted(self._sums)
      if self._counts[name]
    }
