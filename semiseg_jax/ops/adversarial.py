"""What a discriminator of class maps sees, is trained with, and gives to what it judges.

Sources: AdvSemiSeg (Hung et al., BMVC 2018); s4GAN (Mittal, Tatarchenko, Brox, TPAMI 2021).
"""

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


def feature_matching(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Returns the mean over channels of |mean_b real - mean_b fake| per network [N].

  Salimans et al. 2016, equation 1, with the L1 norm of s4GAN.

  Args:
    real: features of a discriminator, [N,B,h,w,K].
    fake: the same of other pictures.
  """
  return jnp.abs(real.mean((1, 2, 3)) - fake.mean((1, 2, 3))).mean(-1)


def with_pictures(maps: jax.Array, pictures: jax.Array) -> jax.Array:
  """Returns class maps [N,B,H,W,C] FIRST, then pictures [B,H,W,K]: [N,B,H,W,C+K]."""
  pictures = jnp.broadcast_to(pictures[None], (*maps.shape[:-1], pictures.shape[-1]))
  return jnp.concatenate([maps, pictures.astype(maps.dtype)], -1)


def in_unit_range(x: jax.Array, low: jax.Array, extent: jax.Array) -> jax.Array:
  """Returns (x - low) / extent, 0 where the extent is not above 0."""
  return jnp.where(extent > 0, (x - low) / jnp.where(extent > 0, extent, 1), 0)
