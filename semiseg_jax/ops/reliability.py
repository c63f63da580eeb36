"""How sure a teacher is of its pseudo labels, by the entropy of its prediction (U2PL, 2022)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.losses import cross_entropy_sums

_TINY = 1e-10  # within the logarithm, as published


def entropy(logits: jax.Array) -> jax.Array:
  """Returns H = -sum_c p_c log(p_c + 1e-10) per pixel, in nats: [...,C] -> [...]."""
  p = jax.nn.softmax(logits, axis=-1)
  return -(p * jnp.log(p + _TINY)).sum(-1)


def percentiles(x: jax.Array, valid: jax.Array, percents: Sequence[Any]) -> list[jax.Array]:
  """Returns percentiles of the valid numbers along the last axis, infinity where there are none.

  Linear interpolation at position q / 100 (n - 1) of the n sorted numbers, numpy's rule.

  Args:
    x: [...,P].
    valid: bool [...,P].
    percents: q, 0 to 100 each; they may be traced.
  """
  n = valid.sum(-1, keepdims=True)
  last = jnp.maximum(n - 1, 0)
  ordered = jnp.sort(jnp.where(valid, x, jnp.inf), axis=-1)
  found = []
  for q in percents:
    position = jnp.asarray(q, x.dtype) / 100 * last
    low = jnp.minimum(jnp.floor(position).astype(jnp.int32), last)
    high = jnp.minimum(low + 1, last)
    a, b = (jnp.take_along_axis(ordered, at, axis=-1) for at in (low, high))
    between = a + (b - a) * (position - low)
    found.append(jnp.where(n > 0, between, jnp.inf)[..., 0])
  return found


def entropy_bounds(
  H: jax.Array, labels: jax.Array, percents: Sequence[Any], groups: int
) -> list[jax.Array]:
  """Returns percentiles of the entropy over labeled pixels, [N,B,1,1] each: one value per group.

  Args:
    H: [N,B,H,W].
    labels: int [N,B,H,W], IGNORE left out.
    percents: see `percentiles`.
    groups: contiguous parts of the batch with percentiles of their own.
  """
  n, b = H.shape[:2]
  cut = lambda x: x.reshape(n, groups, -1)
  found = percentiles(cut(H), cut(labels != IGNORE), percents)
  return [jnp.repeat(bound, b // groups, axis=1)[..., None, None] for bound in found]


def reliable_loss(
  P: jax.Array, labels: jax.Array, H: jax.Array, bound: jax.Array, groups: int
) -> tuple[jax.Array, jax.Array]:
  """Returns U2PL's loss on unlabeled pictures [N] and the labels that were kept [N,B,H,W].

  Labels where H < bound are kept.  L_u = (pixels / kept) mean over kept of CE(P, label), `pixels`
  being all of a group as in the paper: the fewer are kept, the more each counts.

  Args:
    P: logits [N,B,H,W,C]; the gradient goes here.
    labels: uint8 [N,B,H,W], IGNORE left out.
    H: entropies of what gave the labels [N,B,H,W].
    bound: gamma, [N,B,1,1].
    groups: contiguous parts of the batch with a mean of their own.
  """
  kept = jnp.where(bound > H, labels, jnp.uint8(IGNORE))
  total, count = cross_entropy_sums(P, kept, groups)
  count = jnp.maximum(count, 1).astype(total.dtype)
  pixels = kept[0].size // groups
  return (total / count * (pixels / count)).mean(-1), kept
