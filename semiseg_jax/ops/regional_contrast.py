"""Regional contrast (ReCo; Liu, Zhi, Johns, Davison, ICLR 2022, arXiv 2104.04465)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.class_sets import (
  ClassSets,
  drawn,
  info_nce,
  mean_over_present,
  own,
  prototypes,
  sets_of,
  unit,
)
from semiseg_jax.ops.keys import named_key

_NEVER = -1e30
# (class, all pixels, hard ones, shares of the other classes [C]) -> queries [Q], negatives [Q,K].
Picks = Callable[[jax.Array, ClassSets, ClassSets, jax.Array], tuple[jax.Array, jax.Array]]


def class_shares(mu: jax.Array, present: jax.Array, temperature: float) -> jax.Array:
  """Returns how often a class's queries meet each other class [C,C]: softmax cos(mu, mu') / tau.

  A class never meets itself or an absent class.

  Args:
    mu: prototypes [C,D].
    present: bool [C].
    temperature: tau.
  """
  units = unit(mu)
  cosine = jnp.einsum("cd,ed->ce", units, units, precision=lax.Precision.HIGHEST)
  possible = present[None] & ~jnp.eye(len(mu), dtype=bool)
  shares = jax.nn.softmax(jnp.where(possible, cosine / temperature, _NEVER), axis=1)
  return jnp.where(possible, shares, 0)


def draw(key: jax.Array, queries: int, negatives: int) -> Picks:
  """Returns a function that draws Q queries of a class and K negatives of each, with repeats."""

  def picks(c: jax.Array, members: ClassSets, hard: ClassSets, share: jax.Array) -> tuple:
    uniform = lambda use, *shape: jax.random.uniform(
      jax.random.fold_in(named_key(key, use), c), shape
    )
    reached = jnp.cumsum(share)
    classes = jnp.arange(len(share))
    u = uniform("class", queries, negatives) * reached[-1]
    last = jnp.where(share > 0, classes, 0).max()  # where a sum was rounded down
    other = jnp.minimum(jnp.searchsorted(reached, u, side="right"), last)
    keys = drawn(members, other, uniform("negative", queries, negatives))
    return drawn(hard, c, uniform("query", queries)), keys

  return picks


def regional_contrast(
  E: jax.Array,
  y: jax.Array,
  valid: jax.Array,
  p: jax.Array,
  picks: Picks,
  *,
  strong: float,
  temperature: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the ReCo loss and the number of classes whose queries are in it.

  Queries are valid pixels of a class whose probability of it is below `strong`; the positive is the
  mean of its valid pixels, negatives are valid pixels of other classes.  Neither has a gradient.
  Classes are run one after the other, once more in the backward pass.

  Args:
    E: embeddings [P,D]; the gradient goes here.
    y: classes int [P].
    valid: bool [P].
    p: probabilities [P,C] of the network that gave E.
    picks: see `draw`.
    strong: delta_s.
    temperature: tau.
  """
  C, known = p.shape[-1], lax.stop_gradient(E)
  members = sets_of(y, valid, C)
  hard = sets_of(y, valid & (own(lax.stop_gradient(p), y) < strong), C)
  mu, present = prototypes(known, y, valid, C), members.count > 0
  shares = class_shares(mu, present, temperature)

  @jax.checkpoint
  def of_class(c: jax.Array) -> jax.Array:
    queries, negatives = picks(c, members, hard, shares[c])
    return info_nce(E[queries], mu[c], known[negatives], temperature)

  used = hard.count > 0
  return mean_over_present(lax.map(of_class, jnp.arange(C)), used, present), used.sum()


def weighted_loss(
  P: jax.Array, labels: jax.Array, confidence: jax.Array, strong: float, positive: bool = False
) -> jax.Array:
  """Returns the mean over labeled pixels of w_b CE [N], w_b being a picture's share of sure pixels.

  w_b = pixels with a confidence of at least `strong` over labeled pixels.

  Args:
    P: logits [N,B,H,W,C]; the gradient goes here.
    labels: uint8 [N,B,H,W], IGNORE left out.
    confidence: [N,B,H,W].
    strong: delta_s.
    positive: as published: pixels whose cross entropy is 0 are left out of the mean.
  """
  labeled = labels != IGNORE
  count = jnp.maximum(labeled.sum((2, 3)), 1)
  w = (confidence >= strong).sum((2, 3)) / count
  # The maximum first: a small cross entropy is no difference of two large numbers.
  z = P - lax.stop_gradient(P.max(-1, keepdims=True))
  hit = labels[..., None] == lax.broadcasted_iota(labels.dtype, P.shape, P.ndim - 1)
  ce = jnp.where(labeled, jnp.log(jnp.exp(z).sum(-1)) - jnp.where(hit, z, 0).sum(-1), 0)
  taken = (ce > 0) if positive else labeled
  total = (w[..., None, None] * ce).sum((1, 2, 3))
  return total / jnp.maximum(taken.sum((1, 2, 3)), 1)
