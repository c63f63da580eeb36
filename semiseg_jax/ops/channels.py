"""Dropout of whole channels of feature maps: masks that are multiplied to [N,B,h,w,C].

Sources: UniMatch (Yang et al., CVPR 2023), UniMatch V2 (TPAMI 2025, arXiv 2410.10777).
"""

import jax
import jax.numpy as jnp


def dropout_masks(u: jax.Array, rate: float) -> jax.Array:
  """Returns 0 with probability `rate` below 1, else 1 / (1 - rate), of uniform numbers `u`."""
  return jnp.where(u >= rate, jnp.ones_like(u) / (1 - rate), 0)


def complementary_masks(b: jax.Array, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the masks 2 b and 2 - 2 b of two views, [...,B,C]; both are 1 in rows that stay whole.

  Args:
    b: bool [...,B,C].
    whole: bool [...,B].
  """
  first = 2.0 * b.astype(jnp.float32)
  kept = whole[..., None]
  return jnp.where(kept, 1, first), jnp.where(kept, 1, 2 - first)


def chosen_rows(order: jax.Array, groups: int) -> jax.Array:
  """Returns bool [N,B]: in each of the contiguous groups the int(k / 2) of k rows that come first.

  Args:
    order: [N,B], unlike numbers, small ones come first.
    groups: into which the B rows fall.
  """
  cut = order.reshape(len(order), groups, -1)
  place = jnp.argsort(jnp.argsort(cut, axis=-1), axis=-1)
  return (place < cut.shape[-1] // 2).reshape(order.shape)
