"""Losses on the overlap of classes: Dice and Lovasz-softmax, on logits [N,B,H,W,C] of N networks.

Both are means over classes, so that a class of few pixels counts as much as one of many.  Their
sums run over the pixels of a group: `group` contiguous pictures, 0 = the global batch, whatever
devices hold it.  A class without a labeled pixel in a group takes no part in its mean, and neither
do ignored pixels, whose gradient is exactly 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE


def dice(logits: jax.Array, labels: jax.Array, *, group: int = 0) -> tuple[jax.Array, jax.Array]:
  """Returns the Dice loss per network [N], and the number of pixels that took part [N].

  1 - mean over the classes c of a group of 2 sum(p_c y_c) / (sum(p_c) + sum(y_c)), p = softmax,
  y one-hot; then the mean over the groups.  A class without a pixel has an overlap of 0 whatever p
  is, and no gradient: it is left out of the mean.  A group without a valid pixel gives 0.

  Source: Sudre et al., DLMIA 2017, equation 2 without weights; sums, not squares as in V-Net
  (Milletari et al., 3DV 2016), and no smoothing term.

  Args:
    logits: [N,B,H,W,C].
    labels: int [N,B,H,W], IGNORE left out.
    group: contiguous pictures that share their sums, 0 = all.
  """

  def overlap(p: jax.Array, y: jax.Array, valid: jax.Array) -> jax.Array:
    both = jnp.where(y, p, 0).sum(-2)
    total = jnp.where(valid[..., None], p, 0).sum(-2) + y.sum(-2)
    return 1 - 2 * both / jnp.maximum(total, 1)  # of a class with a pixel it is at least 1

  return _mean_of_classes(logits, labels, group, overlap)


def lovasz_softmax(
  logits: jax.Array, labels: jax.Array, *, group: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Returns the Lovasz-softmax loss per network [N], and the pixels that took part [N].

  The mean over the classes of a group of the Lovasz extension of 1 - IoU_c at the errors
  |y_c - p_c|; then the mean over the groups.  At a hard prediction it is 1 - IoU_c itself.  Every
  class sorts the pixels of a group: of large crops that costs more than the head.

  Source: Berman, Triki, Blaschko, CVPR 2018, algorithm 1 and equation 11; classes='present' and
  per_image=False of the authors' code.

  Args:
    logits: [N,B,H,W,C].
    labels: int [N,B,H,W], IGNORE left out.
    group: contiguous pictures that share an IoU, 0 = all (the authors' choice: a batch).
  """

  def extension(p: jax.Array, y: jax.Array, valid: jax.Array) -> jax.Array:
    y, p = (jnp.moveaxis(x, -1, -2) for x in (y, p))  # [N,G,C,pixels]
    # Ignored pixels have no error: they come last, where nothing is added any more.
    errors = jnp.where(valid[..., None, :], jnp.where(y, 1 - p, p), 0)
    order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=-1)
    sorted_ = lambda x: jnp.take_along_axis(x, order, axis=-1)
    slope = _slope(sorted_(y))
    return (sorted_(errors) * slope.astype(p.dtype)).sum(-1)

  return _mean_of_classes(logits, labels, group, extension)


def _slope(y: jax.Array) -> jax.Array:
  """What each of sorted pixels [...,P] adds to 1 - IoU when it joins the wrong ones before it."""
  hits = jnp.cumsum(y, -1, dtype=jnp.int32)
  others = jnp.cumsum(~y, -1, dtype=jnp.int32)
  total = hits[..., -1:]
  union = jnp.maximum(total + others, 1).astype(jnp.float32)
  loss = 1 - (total - hits) / union
  return jnp.diff(loss, axis=-1, prepend=jnp.zeros_like(loss[..., :1]))


def _mean_of_classes(
  logits: jax.Array, labels: jax.Array, group: int, of_class: Callable[..., jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """The mean of `of_class`(p, y, valid) -> [N,G,C] over the present classes, then the groups.

  It gets p, bool y [N,G,pixels,C] and bool valid [N,G,pixels].
  """
  n, b, *_, c = logits.shape
  k = group or b
  if b % k:
    raise ValueError(f"loss_group={group} does not divide the batch of {b} images.")
  p = jax.nn.softmax(logits, -1).reshape(n, b // k, -1, c)
  labels = labels.reshape(n, b // k, -1).astype(jnp.int32)
  valid = labels != IGNORE
  y = labels[..., None] == jnp.arange(c, dtype=jnp.int32)[None, None, None]
  present = y.any(-2)
  total = jnp.where(present, of_class(p, y, valid), 0).sum(-1)
  mean = total / jnp.maximum(present.sum(-1), 1).astype(total.dtype)
  return mean.mean(-1), valid.sum((1, 2))
