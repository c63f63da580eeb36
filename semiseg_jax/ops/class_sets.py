"""Pixels by class: draws, means, and the contrast of pixels with the mean of their class.

What ReCo (Liu et al., ICLR 2022) and U2PL (Wang et al., CVPR 2022) share.  Numbers of pixels depend
on the data; draws have fixed numbers, and classes without pixels weigh 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.ops.contrast import shuffled_by_slot

_SHORT = 1e-8  # lengths below count as this


class ClassSets(NamedTuple):
  """The pixels of each class.

  Attributes:
    order: int32 [P], pixels by class, in raster order within one.
    start, count: int32 [C], where in it a class lies.
  """

  order: jax.Array
  start: jax.Array
  count: jax.Array


def sets_of(y: jax.Array, mask: jax.Array, classes: int) -> ClassSets:
  """Returns the pixels of each class under a mask.

  Args:
    y: int [P]; what is not 0..classes-1 is in no set.
    mask: bool [P].
    classes: C.
  """
  slot = jnp.where(mask & (y < classes), y.astype(jnp.int32), classes)
  return ClassSets(*shuffled_by_slot(slot, jnp.arange(len(y), dtype=jnp.int32), classes))


def drawn(sets: ClassSets, c: jax.Array, u: jax.Array) -> jax.Array:
  """Returns pixels int32 [...] drawn with replacement; some pixel where the class has none.

  Args:
    sets: of the classes.
    c: class, int, a scalar or [...].
    u: uniform in [0,1), [...].
  """
  return sets.order[jnp.minimum(sets.start[c] + place(u, sets.count[c]), len(sets.order) - 1)]


def place(u: jax.Array, count: jax.Array) -> jax.Array:
  """Returns a uniform whole number of 0..count-1 for each `u` in [0,1); 0 where count is 0."""
  return jnp.clip((u * count).astype(jnp.int32), 0, jnp.maximum(count - 1, 0))


def own(p: jax.Array, y: jax.Array) -> jax.Array:
  """Returns p_y [P] of probabilities [P,C] and classes int [P]; 0 where y is no class."""
  hit = y[:, None].astype(jnp.int32) == jnp.arange(p.shape[-1])[None]
  return jnp.where(hit, p, 0).sum(-1)


def prototypes(E: jax.Array, y: jax.Array, mask: jax.Array, classes: int) -> jax.Array:
  """Returns the mean embedding of each class under a mask [C,D], 0 where it has no pixel.

  Args:
    E: [P,D].
    y: int [P].
    mask: bool [P].
    classes: C.
  """
  member = (y[None].astype(jnp.int32) == jnp.arange(classes)[:, None]) & mask[None]
  total = jnp.einsum("cp,pd->cd", member.astype(E.dtype), E, precision=lax.Precision.HIGHEST)
  return total / jnp.maximum(member.sum(1), 1)[:, None]


def unit(x: jax.Array) -> jax.Array:
  """Divides `x` [...,D] by max(its length, 1e-8), as cosine similarities do."""
  square = jnp.square(x).sum(-1, keepdims=True)
  return x * lax.rsqrt(jnp.maximum(square, _SHORT**2))


def info_nce(
  anchors: jax.Array, positive: jax.Array, negatives: jax.Array, temperature: float
) -> jax.Array:
  """Returns the mean over anchors of -log softmax of the cosines over tau, at the positive.

  Args:
    anchors: [Q,D]; the gradient goes here.
    positive: [D], the same for all of them.
    negatives: [Q,K,D].
    temperature: tau.
  """
  x = unit(anchors)
  dot = lambda text, y: jnp.einsum(text, x, unit(y), precision=lax.Precision.HIGHEST) / temperature
  same, others = dot("qd,d->q", positive), dot("qd,qkd->qk", negatives)
  logits = jnp.concatenate([same[:, None], others], axis=1)
  return (jax.nn.logsumexp(logits, axis=1) - same).mean()


def mean_over_present(losses: jax.Array, used: jax.Array, present: jax.Array) -> jax.Array:
  """Returns the sum of the losses [C] of classes `used` over the number of classes `present`.

  Present classes that are not used add 0 and count; fewer than two present classes give 0.
  """
  n = present.sum()
  return jnp.where(n > 1, jnp.where(used, losses, 0).sum() / jnp.maximum(n, 1), 0)
