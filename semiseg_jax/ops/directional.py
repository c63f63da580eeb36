"""The directional contrastive loss of CAC (Lai et al., CVPR 2021, arXiv 2106.14133), section 3.3.

The less sure pixel of a pair is pulled towards the surer one, never the other way round.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.ops.overlap import matched
from semiseg_jax.ops.step_bank import Bank, drawn_rows, pushed

_NEVER = -1e30  # a score that adds nothing to any sum of exponentials
_EPSILON = 1e-8  # of the released code, beside the sum and inside of the logarithm


class Pixels(NamedTuple):
  """Maps of one crop: embeddings z [B,h,w,D] of unit length, classes y and their probability p."""

  z: jax.Array
  y: jax.Array
  p: jax.Array


class Contrast(NamedTuple):
  """What the loss of a pair of crops leaves.

  loss: [2], by direction: anchors of the first, of the second crop.
  positives: bool [2,B,h,w], on the grid of the first crop: pairs that take part.
  overlap: bool [B,h,w].
  bank: with the pixels of this step.
  """

  loss: jax.Array
  positives: jax.Array
  overlap: jax.Array
  bank: Bank


def classified(z: jax.Array, logits: jax.Array) -> Pixels:
  """Returns the pixels of embeddings [...,D] with the classes of logits [...,C], no gradient.

  Probabilities near 1 are compared with each other: a difference of logarithms would round them.
  """
  logits = lax.stop_gradient(logits)
  p = jax.nn.softmax(logits, axis=-1).max(-1)
  return Pixels(z, logits.argmax(-1).astype(jnp.uint8), p)


def directional_contrast(
  first: Pixels,
  second: Pixels,
  geometry: jax.Array,
  bank: Bank,
  u: tuple[jax.Array, jax.Array],
  *,
  stride: int,
  groups: int,
  number: int,
  temperature: float,
  threshold: float,
  block: int,
) -> Contrast:
  """Returns the loss of both directions: a mean over the pairs of a group, then over the groups.

  A pair takes part in direction 1 where p_2 > threshold and p_1 < p_2, in direction 2 the other way
  round.  A group without such pairs gives 0.

  Args:
    first, second: both crops, as the network saw them; gradients go to their z as anchors.
    geometry, stride: see `matched`.
    bank: of one network; the pixels of this step enter it before they are compared.
    u: random numbers [B,h,w] for each crop, see `drawn_rows`.
    groups: into which the batch is cut.
    number: of pixels of a group's crops, first or second, that enter.
    temperature: tau.
    threshold: gamma.
    block: negatives that are compared at a time, see `directional_nll`.
  """
  rows = [
    drawn_rows(crop.z, crop.y, draws, groups=groups, number=number)
    for crop, draws in zip((first, second), u)
  ]
  bank = pushed(bank, jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows))
  first, second, overlap = matched(first, second, geometry, stride)

  def direction(anchor: Pixels, target: Pixels) -> tuple[jax.Array, jax.Array]:
    z, b = (x.z.reshape(-1, x.z.shape[-1]) for x in (anchor, target))
    nll = directional_nll(z, b, anchor.y.ravel(), bank, temperature=temperature, block=block)
    taken = positives(anchor, target, overlap, threshold)
    total, count = (x.reshape(groups, -1).sum(1) for x in (jnp.where(taken.ravel(), nll, 0), taken))
    return (total / jnp.maximum(count, 1)).mean(), taken

  found = [direction(*pair) for pair in ((first, second), (second, first))]
  loss, taken = (jnp.stack(parts) for parts in zip(*found))
  return Contrast(loss, taken, overlap, bank)


def positives(anchor: Pixels, target: Pixels, overlap: jax.Array, threshold: float) -> jax.Array:
  """Returns which pixels of the overlap [B,h,w] have a target that is sure, and surer."""
  return overlap & (target.p > threshold) & (anchor.p < target.p)


def directional_nll(
  z: jax.Array, target: jax.Array, y: jax.Array, bank: Bank, *, temperature: float, block: int
) -> jax.Array:
  """Returns -log(q_i + 1e-8) [P] of anchors z_i and their targets b_i, with M rows of a bank.

    s_i = z_i . b_i / tau     n_ij = z_i . k_j / tau     m_i = max(s_i, max_j n_ij)
    q_i = e^(s_i - m_i) / (e^(s_i - m_i) + sum_j [y(k_j) != y_i] e^(n_ij - m_i) + 1e-8)

  The maximum is over all rows, those of the anchor's class too, and has a gradient: with 1e-8 in
  the sum it is visible where an anchor is unlike everything.  The P x M scores are never there at
  once: blocks of rows are run one after the other, and once more in the backward pass.  The
  gradient of both directions with 16,200 anchors and 129,600 rows (two crops of Cityscapes) needs
  0.5 GB in blocks of 2048, where all scores of one direction are 8.4 GB.

  Args:
    z: [P,D], of unit length; the only one with a gradient.
    target: b [P,D].
    y: classes int [P] of the anchors.
    bank: of one network, [S,R,...].
    temperature: tau.
    block: rows at a time, at most.
  """
  scale = jnp.asarray(1 / temperature, z.dtype)
  y, known = y.astype(jnp.uint8), lax.stop_gradient
  rows = {name: known(x).reshape(-1, *x.shape[2:]) for name, x in bank.items()}
  keys = rows["keys"].astype(z.dtype)
  score = lambda k: scale * (z * k).sum(-1)

  @jax.checkpoint
  def compare(carry: tuple, part: tuple) -> tuple[tuple, None]:
    (log_Z, top, which), (k, label, held, first) = carry, part
    n = scale * jnp.einsum("pd,md->pm", z, k, precision=lax.Precision.HIGHEST)
    negative = held[None] & (label[None] != y[:, None])
    log_Z = jnp.logaddexp(log_Z, jax.nn.logsumexp(jnp.where(negative, n, _NEVER), axis=1))
    n = jnp.where(held[None], known(n), _NEVER)
    best = n.max(1)
    which = jnp.where(best > top, first + n.argmax(1).astype(jnp.int32), which)
    return (log_Z, jnp.maximum(best, top), which), None

  blocks, first = _blocks((keys, rows["labels"], rows["held"]), block)
  none = jnp.full(len(z), _NEVER, z.dtype)
  start = (none, none, jnp.zeros(len(z), jnp.int32))
  (log_Z, top, which), _ = lax.scan(compare, start, (*blocks, first))
  s = score(known(target))
  m = jnp.where(top > _NEVER, jnp.maximum(s, score(keys[which])), s)
  positive = jnp.exp(s - m)
  q = positive / (positive + jnp.exp(log_Z - m) + _EPSILON)
  return -jnp.log(q + _EPSILON)


def _blocks(rows: tuple[jax.Array, ...], block: int) -> tuple[tuple[jax.Array, ...], jax.Array]:
  """Rows [M,...] as equal blocks [K,M/K,...] of at most `block`, zeros at the end; their starts."""
  count = -(-len(rows[0]) // block)
  size = -(-len(rows[0]) // count)
  more = count * size - len(rows[0])
  cut = lambda x: jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)).reshape(
    count, size, *x.shape[1:]
  )
  return tuple(map(cut, rows)), jnp.arange(count, dtype=jnp.int32) * size
