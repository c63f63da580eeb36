"""What a discriminator of class maps is trained with and fools."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE


def mean_bce(parts: Sequence[tuple[jax.Array, jax.Array]], target: int) -> jax.Array:
  """Returns mean(softplus(z) - target z) per network [N], one mean over the pixels of all parts.

  0 where no pixel takes part (the published code gives NaN).

  Args:
    parts: logits z [N,B,H,W] and the pixels to use, bool [B,H,W].
    target: 0 or 1.
  """
  total, count = 0, 0
  for z, used in parts:
    total += jnp.where(used[None], jax.nn.softplus(z) - target * z, 0).sum((1, 2, 3))
    count += used.sum()
  return total / jnp.maximum(count, 1)


def one_hot_map(labels: jax.Array, num_classes: int, dtype: jnp.dtype) -> jax.Array:
  """Returns labels [B,H,W] as class maps [B,H,W,C]; an ignored pixel is all zeros."""
  assert IGNORE >= num_classes
  return jax.nn.one_hot(labels, num_classes, dtype=dtype)
