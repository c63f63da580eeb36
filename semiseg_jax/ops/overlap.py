"""What two crops of one picture have in common, on the grid of their maps (CAC, CVPR 2021)."""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def matched(
  first: Tree, second: Tree, geometry: jax.Array, stride: int
) -> tuple[Tree, Tree, jax.Array]:
  """Returns the maps of both crops on the grid of the first, not mirrored, and where they overlap.

  No overlap is cut out: its size differs from picture to picture.  Outside of it the second maps
  hold other pixels, which are to be masked.

  Args:
    first: a tree of maps [B,h,w,...] of the first crop, as the network saw it.
    second: the same of the second crop.
    geometry: int [B,6]: dy, dx, vh, vw, flip_1, flip_2 in pixels, see data/augment/pairs.py; the
      first four are multiples of `stride`.
    stride: pixels of the crop for one of the maps.

  Returns:
    first, second: trees of maps [B,h,w,...].
    overlap: bool [B,h,w], in both crops and in the picture.
  """
  h, w = jax.tree.leaves(first)[0].shape[1:3]
  dy, dx, vh, vw, flip, flip_2 = jnp.moveaxis(geometry, -1, 0)
  rows, inside_y = _partners(h, dy // stride, vh // stride)
  columns, inside_x = _partners(w, dx // stride, vw // stride)
  columns = jnp.where(flip_2[:, None] > 0, w - 1 - columns, columns)
  turn = jax.vmap(lambda m, flip: jnp.where(flip > 0, m[:, ::-1], m))
  take = jax.vmap(lambda m, r, c: m[r[:, None], c[None]])
  first = jax.tree.map(lambda m: turn(m, flip), first)
  second = jax.tree.map(lambda m: take(m, rows, columns), second)
  return first, second, inside_y[:, :, None] & inside_x[:, None]


def _partners(n: int, shift: jax.Array, limit: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Of the n places of a side those in the other crop [B,n], and which of them there are."""
  at, end = jnp.arange(n)[None], jnp.minimum(limit, n)[:, None]
  other = at - shift[:, None]
  return jnp.clip(other, 0, n - 1), (at < end) & (other >= 0) & (other < end)
