"""Pixel contrast (Wang et al., ICCV 2021, arXiv 2101.11939): anchors of fixed number, the loss.

Sizes that depend on the data are turned into masks: R rows whatever the batch holds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_NEVER = -1e30  # a logit that adds nothing to any sum of exponentials


class Anchors(NamedTuple):
  """R rows, of which the first T V are anchors.

  pixel: int32 [R], number in the flattened pictures [k h w] of the group.
  label: int32 [R], its class.
  valid: bool [R].
  view_major: int32 [R], view * T + pair; the rows are pair-major.
  """

  pixel: jax.Array
  label: jax.Array
  valid: jax.Array
  view_major: jax.Array


def shuffled_by_slot(
  slot: jax.Array, u: jax.Array, slots: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Sorts pixels by slot and within a slot by `u`.

  Args:
    slot: int32 [P], 0..slots-1; larger ones come last.
    u: [P], a random number per pixel.
    slots: how many there are.

  Returns:
    order [P], the pixels; start and count [slots], where in it a slot lies.
  """
  ordered, _, order = lax.sort((slot, u, jnp.arange(len(slot), dtype=jnp.int32)), num_keys=2)
  edges = jnp.searchsorted(ordered, jnp.arange(slots + 1, dtype=slot.dtype)).astype(jnp.int32)
  return order, edges[:-1], edges[1:] - edges[:-1]


def sample_anchors(
  labels: jax.Array,
  predictions: jax.Array,
  u: jax.Array,
  *,
  num_classes: int,
  max_samples: int,
  max_views: int,
) -> Anchors:
  """Draws anchors from k pictures that share a budget.

  A pair (picture, class) takes part where the class has more than `max_views` pixels there; each of
  the T pairs gives V = min(max_samples // T, max_views) anchors: half of them hard (predicted
  wrongly) and half easy (an odd one is easy), or more of the ones where the others are few.

  Args:
    labels: int [k,h,w], 0..C-1, anything else is ignored.
    predictions: int [k,h,w].
    u: [k,h,w], a random number per pixel: the smallest ones are taken.
    num_classes: C.
    max_samples: budget of the k pictures; R = min(max_samples, k C max_views).
    max_views: see above.
  """
  k, pixels = len(labels), labels[0].size
  label, right = labels.astype(jnp.int32).reshape(k, pixels), labels == predictions
  slot = jnp.where(
    (label >= 0) & (label < num_classes),
    2 * label + right.reshape(k, pixels),
    2 * num_classes,
  )
  order, start, count = jax.vmap(shuffled_by_slot, (0, 0, None))(
    slot, u.reshape(k, pixels), 2 * num_classes
  )
  start, count = (x.reshape(k * num_classes, 2) for x in (start, count))
  active = count.sum(1) > max_views
  T = active.sum()
  V = jnp.minimum(max_samples // jnp.maximum(T, 1), max_views)
  hard, easy = count[:, 0], count[:, 1]
  few_easy, few_hard = 2 * easy < V, 2 * hard < V  # an odd V is halved as a real number
  hard_kept = jnp.where(few_hard, hard, jnp.where(few_easy, V - easy, V // 2))

  row = jnp.arange(min(max_samples, k * num_classes * max_views), dtype=jnp.int32)
  pair, view = row // jnp.maximum(V, 1), row % jnp.maximum(V, 1)
  pairs = jnp.argsort(~active, stable=True)  # pictures ascending, classes ascending in each
  found = pairs[jnp.minimum(pair, len(pairs) - 1)]
  is_hard = view < hard_kept[found]
  at = jnp.where(is_hard, start[found, 0] + view, start[found, 1] + view - hard_kept[found])
  picture = found // num_classes
  pixel = picture * pixels + order[picture, jnp.clip(at, 0, pixels - 1)]
  return Anchors(pixel, found % num_classes, row < T * V, view * T + pair)


def contrast_loss(
  x: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  bank: jax.Array,
  bank_labels: jax.Array,
  excluded: jax.Array,
  *,
  temperature: float,
  base_temperature: float,
) -> jax.Array:
  """Returns the mean over anchors r of l_r, 0 where there is none (the published code crashes).

    s_rk = x_r . b_k / tau      Z_r = sum of exp(s_rk) over the entries k of other classes
    l_r = -(tau / tau_b) mean over the positives k of [s_rk - log(exp(s_rk) + Z_r)]

  Equation 3 of the paper, with one denominator per positive.  An anchor without positives is left
  out of the mean (NaN in the published code).  K blocks are run one after the other and computed
  again for the gradient, so that R x M logits are in memory and not R x K M.

  Args:
    x: anchors [R,D] of unit length.
    labels: int [R].
    valid: bool [R].
    bank: entries [K,M,D].
    bank_labels: int [K,M], -1 = no entry.
    excluded: int [R], the number of the entry in [K M] that is no positive of the anchor, or -1.
    temperature: tau.
    base_temperature: tau_b.
  """
  scale = jnp.asarray(1 / temperature, x.dtype)
  columns = jnp.arange(bank.shape[1])

  def logits(entries: jax.Array) -> jax.Array:
    return scale * jnp.einsum("rd,md->rm", x, entries, precision=lax.Precision.HIGHEST)

  @jax.checkpoint
  def others(log_Z: jax.Array, block: tuple) -> tuple[jax.Array, None]:
    entries, y, _ = block
    negative = (y[None] != labels[:, None]) & (y[None] >= 0)
    s = jnp.where(negative, logits(entries), _NEVER)
    return jnp.logaddexp(log_Z, jax.nn.logsumexp(s, axis=1)), None

  @jax.checkpoint
  def same(carry: tuple, block: tuple) -> tuple[tuple, None]:
    (total, count, log_Z), (entries, y, first) = carry, block
    positive = y[None] == labels[:, None]
    positive &= first + columns[None] != excluded[:, None]
    s = logits(entries)
    log_p = jnp.where(positive, s - jnp.logaddexp(s, log_Z[:, None]), 0)
    return (total + log_p.sum(1), count + positive.sum(1, dtype=jnp.int32), log_Z), None

  blocks = (bank, bank_labels, jnp.arange(len(bank)) * bank.shape[1])
  log_Z, _ = lax.scan(others, jnp.full(len(x), _NEVER, x.dtype), blocks)
  zero = (jnp.zeros(len(x), x.dtype), jnp.zeros(len(x), jnp.int32), log_Z)
  (total, count, _), _ = lax.scan(same, zero, blocks)
  used = valid & (count > 0)
  each = -(temperature / base_temperature) * total / jnp.maximum(count, 1)
  return jnp.where(used, each, 0).sum() / jnp.maximum(used.sum(), 1)
