"""Pseudo labels with a confidence: who teaches which pixel, and the cross entropy against them.

Source: FixMatch (Sohn et al., NeurIPS 2020) for segmentation as UniMatch (Yang et al., CVPR 2023)
released it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.losses import cross_entropy_sums


class Taught(NamedTuple):
  """What a prediction teaches.

  Attributes:
    m: pseudo labels, uint8 [N,B,H,W].
    c: their confidence, the largest probability, [N,B,H,W].
    g: bool [1,B,H,W], pixels that count at all: no padding.
  """

  m: jax.Array
  c: jax.Array
  g: jax.Array


def taught(P: jax.Array, inside: jax.Array) -> Taught:
  """Returns what logits P [N,B,H,W,C] teach, without gradient; `inside` is bool [B,H,W]."""
  P = jax.lax.stop_gradient(P)
  confidence = jnp.exp(P.max(-1) - jax.nn.logsumexp(P, axis=-1))
  return Taught(P.argmax(-1).astype(jnp.uint8), confidence, inside[None])


def pasted(M: jax.Array, theirs: Taught, own: Taught) -> Taught:
  """Returns `theirs` where M, bool [B,H,W], is true and `own` elsewhere."""
  return Taught(*(jnp.where(M[None], a, b) for a, b in zip(theirs, own)))


def reversed_rows(x: jax.Array, axis: int, groups: int) -> jax.Array:
  """Returns the rows of a batch in reverse order within each of so many contiguous groups.

  The partners of UniMatch V2: row i of n takes row n - 1 - i; the middle of an odd group stays.

  Args:
    x: any array.
    axis: of the batch, whose length the groups divide.
    groups: into which it falls.
  """
  cut = x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
  return jnp.flip(cut, axis + 1).reshape(x.shape)


def sure(Y: Taught, threshold: float) -> jax.Array:
  """Returns bool [N,B,H,W]: pixels that count and whose confidence is `threshold` or more."""
  return (Y.c >= threshold) & Y.g


def sure_labels(Y: Taught, threshold: float) -> jax.Array:
  """Returns the pseudo labels uint8 [N,B,H,W], IGNORE where they are not `sure`."""
  return jnp.where(sure(Y, threshold), Y.m, jnp.uint8(IGNORE))


def of_others(Y: jax.Array) -> jax.Array:
  """Returns what the other networks teach network k, [N,B,H,W] of their pseudo labels Y.

  Of two the other one's; of more the label on which all others agree, IGNORE where they do not.
  """
  first, *more = (jnp.roll(Y, shift, axis=0) for shift in range(1, len(Y)))
  agree = jnp.ones(Y.shape, bool)
  for other in more:
    agree &= other == first
  return jnp.where(agree, first, jnp.asarray(IGNORE, Y.dtype))


def averaged_cross_entropy_sums(
  P: jax.Array, Y: Taught, groups: int, published: bool
) -> tuple[jax.Array, jax.Array]:
  """Returns sum_b a_b CE_b and the number of pixels that count, both [N,G].

  a_b is the mean confidence of picture b and CE_b its summed cross entropy, both over pixels that
  count.  The weights 'pixelavg' of PrevMatch (Shin et al., 2024).

  Args:
    P: logits [N,B,H,W,C]; the gradient goes here.
    Y: what teaches them.
    groups: G, contiguous parts of the batch with a mean of their own.
    published: the product of the sums instead, with the cross entropy of all pixels: it grows with
      the pictures of a group, and padding teaches.
  """
  n, rows = P.shape[:2]
  a = jnp.where(Y.g, Y.c, 0).sum((2, 3)) / jnp.maximum(Y.g.sum((2, 3)), 1)
  labels = Y.m if published else jnp.where(Y.g, Y.m, jnp.uint8(IGNORE))
  each, _ = cross_entropy_sums(P, labels, rows)
  grouped = lambda x: x.reshape(n, groups, -1).sum(-1)
  total = grouped(each) * grouped(a) if published else grouped(a * each)
  counted = jnp.broadcast_to(Y.g, Y.m.shape)
  return total, grouped(counted)


def confident_cross_entropy_sums(
  P: jax.Array, Y: Taught, threshold: float, groups: int
) -> tuple[jax.Array, jax.Array]:
  """Returns the cross entropy summed over sure pixels, and the number of pixels that count.

  The published denominator: pixels that are not sure add 0 to the sum and 1 to the number, so that
  few sure pixels teach little.  Both are [N,G].

  Args:
    P: logits [N,B,H,W,C]; the gradient goes here.
    Y: what teaches them.
    threshold: tau.
    groups: G, contiguous parts of the batch with a mean of their own.
  """
  total, _ = cross_entropy_sums(P, sure_labels(Y, threshold), groups)
  counted = jnp.broadcast_to(Y.g, Y.m.shape)
  return total, counted.reshape(len(counted), groups, -1).sum(-1)
