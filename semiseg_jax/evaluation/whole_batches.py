"""Batches of whole pictures: one program labels them, and they come back to the host at once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from semiseg_jax.evaluation.bands import Classify


@functools.partial(jax.jit, static_argnums=(2, 3))
def classified(
  scores: jax.Array, kept: jax.Array | None, classify: Classify, rule: str
) -> tuple[Any, jax.Array]:
  """What `classify` makes of each row of scores [B,h,w,K], and whether it is finite, bool [B].

  `kept`, bool [B,C], and `rule`: of a gate, or None and ''.
  """
  one = lambda row, of_row: classify(row, kept=of_row, rule=rule)
  return jax.vmap(one, in_axes=(0, None if kept is None else 0))(scores, kept)


def kept_of(gates: Sequence[tuple[Any, ...]], batch: int) -> tuple[np.ndarray | None, str]:
  """The classes that pictures may have, bool [batch,C] with rows that nobody reads, and the rule.

  Args:
    gates: of each picture, (kept bool [C], rule); all are () where there is no gate.
    batch: rows, at least as many as pictures.
  """
  if not gates[0]:
    return None, ""
  kept = [np.asarray(kept) for kept, _ in gates]
  return np.stack(kept + kept[:1] * (batch - len(kept))), gates[0][1]


class Batch:
  """What was made of a batch, on its way to the host."""

  def __init__(self, made: Any, finite: jax.Array):
    self._made: Any = (made, finite)
    self._is_fetched = False
    for array in jax.tree.leaves(self._made):
      array.copy_to_host_async()

  def row(self, number: int) -> tuple[Any, bool]:
    """Returns arrays [h,w,...] of a row, and whether its scores were finite."""
    if not self._is_fetched:
      self._made, self._is_fetched = jax.device_get(self._made), True
    made, finite = self._made
    return jax.tree.map(lambda x: x[number], made), bool(finite[number])


class Row:
  """One picture of a batch, fetched as `bands.Bands` is."""

  is_band, is_finite = False, True

  def __init__(self, batch: Batch, number: int):
    self._batch, self._number = batch, number

  def fetch(self) -> Any:
    """Returns what was made of it, on the host; look at `is_finite`, too."""
    made, self.is_finite = self._batch.row(self._number)
    return made
