"""Pixel contrast of a batch: pools of pictures that share a budget of anchors, and their memory."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from semiseg_jax.ops.contrast import Anchors, contrast_loss, sample_anchors
from semiseg_jax.ops.memory import Memory, as_bank, draw_pixels, enqueue
from semiseg_jax.ops.resize import resize_nearest


def flat_labels(parts: Sequence[jax.Array], size: tuple[int, int]) -> jax.Array:
  """Joins maps [N,B,H,W] of several streams on B: [N,P], the pixels at the stride of `size`."""
  joined = resize_nearest(jnp.concatenate(parts, 1), size)
  return joined.reshape(len(joined), -1)


def flat_maps(parts: Sequence[jax.Array]) -> jax.Array:
  """Joins maps [N,B,h,w,C] of several streams on B: [N,P,C]."""
  joined = jnp.concatenate(parts, 1)
  return joined.reshape(len(joined), -1, joined.shape[-1])


def pooled(parts: Sequence[jax.Array], groups: int) -> jax.Array:
  """Joins [N,B,...] of several streams on B so that each group has its share of each stream.

  Group g of G has rows g B/G to (g + 1) B/G of every stream: those of the first, then of the next.
  """
  cut = [x.reshape(len(x), groups, -1, *x.shape[2:]) for x in parts]
  joined = jnp.concatenate(cut, axis=2)
  return joined.reshape(len(joined), -1, *joined.shape[3:])


def contrast_of_pools(
  P: jax.Array,
  E: jax.Array,
  y: jax.Array,
  u: jax.Array,
  memory: Memory | None,
  *,
  groups: int,
  max_samples: int,
  max_views: int,
  temperature: float,
  base_temperature: float,
  reference: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns L_contrast [N], a mean over pools of pictures, and the number of anchors [N].

  Args:
    P: logits [N,B,h,w,C].
    E: embeddings [N,B,h,w,D].
    y: labels [N,B,h,w].
    u: random numbers [N,B,h,w].
    memory: with a leading axis N, or None: anchors are compared with each other.
    groups: pools, into which the batch is cut.
    max_samples, max_views: see `sample_anchors`.
    temperature, base_temperature: see `contrast_loss`.
    reference: as published, see `as_bank`.
  """
  cut = lambda a: a.reshape(groups, -1, *a.shape[1:])

  of_pool = functools.partial(
    _contrast_of_pool,
    sampling={"max_samples": max_samples, "max_views": max_views},
    temperatures={"temperature": temperature, "base_temperature": base_temperature},
    reference=reference,
  )

  def of_network(
    P: jax.Array, E: jax.Array, y: jax.Array, u: jax.Array, memory: Memory | None
  ) -> tuple[jax.Array, jax.Array]:
    of_pools = jax.vmap(of_pool, (0, 0, 0, 0, None))
    loss, anchors = of_pools(cut(P), cut(E), cut(y), cut(u), memory)
    return loss.mean(), anchors.sum()

  return jax.vmap(of_network)(P, E, y, u, memory)


def _contrast_of_pool(
  P: jax.Array,
  E: jax.Array,
  y: jax.Array,
  u: jax.Array,
  memory: Memory | None,
  *,
  sampling: Mapping[str, int],
  temperatures: Mapping[str, float],
  reference: bool,
) -> tuple[jax.Array, jax.Array]:
  """The loss of one pool of pictures and the number of its anchors, of one network."""
  anchors = sample_anchors(y, P.argmax(-1), u, num_classes=P.shape[-1], **sampling)
  x = E.reshape(-1, E.shape[-1])[anchors.pixel]
  compared = _compared(x, anchors, memory, reference)
  loss = contrast_loss(x, anchors.label, anchors.valid, *compared, **temperatures)
  return loss, anchors.valid.sum()


def _compared(
  x: jax.Array, anchors: Anchors, memory: Memory | None, reference: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What the anchors are compared with, see `contrast_loss`: each other, or the memory."""
  if memory is None:
    labels = jnp.where(anchors.valid, anchors.label, -1)
    return x[None], labels[None], jnp.arange(len(x))
  bank, labels = as_bank(memory, reference)
  nothing = jnp.full(len(x), -1, jnp.int32)
  return bank, labels, anchors.view_major if reference else nothing


def remember(
  memory: Memory,
  E: jax.Array,
  y: jax.Array,
  u: jax.Array,
  *,
  pixels: int,
  reference: bool = False,
) -> Memory:
  """Returns the memory (leading axis N) after the pictures of a batch.

  Args:
    memory: with a leading axis N.
    E: embeddings [N,B,h,w,D].
    y: labels [N,B,h,w].
    u: random numbers [N,B,h,w].
    pixels: f, pixels per class of a picture that enter.
    reference: as published, see `enqueue`.
  """

  def of_network(memory: Memory, E: jax.Array, y: jax.Array, u: jax.Array) -> Memory:
    classes, flat = len(memory["region"]), y.reshape(len(y), -1)
    draw = lambda labels, u: draw_pixels(labels, u, classes, pixels, reference)
    drawn = jax.vmap(draw)(flat, u.reshape(flat.shape))
    return enqueue(memory, E.reshape(*flat.shape, -1), flat, drawn, reference)

  return jax.vmap(of_network)(memory, E, y, u)
