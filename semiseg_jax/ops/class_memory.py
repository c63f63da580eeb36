"""A ring of embeddings for each class, in one array: U2PL's memory of negatives."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops.class_sets import place
from semiseg_jax.ops.dtypes import DTYPES

Rings = dict[str, jax.Array]


def empty_rings(copies: int, sizes: Sequence[int], width: int, dtype: str) -> dict[str, np.ndarray]:
  """Returns the rings of N networks before the first step, numpy.

  'keys' [N,S,D], the places of class 0, then those of class 1, ...; 'at' int32 [N,C], the place
  that is written next; 'filled' int32 [N,C], how many hold an embedding.

  Args:
    copies: N.
    sizes: places of each class; S is their sum.
    width: D.
    dtype: of the embeddings, a key of DTYPES.
  """
  none = np.zeros((copies, len(sizes)), np.int32)
  keys = np.zeros((copies, sum(sizes), width), DTYPES[dtype])
  return {"keys": keys, "at": none, "filled": none.copy()}


def push(
  rings: Rings,
  E: jax.Array,
  enters: jax.Array,
  u: jax.Array,
  *,
  sizes: Sequence[int],
) -> Rings:
  """Returns the rings of one network after the pixels that enter, in their order.

  Of n pixels that enter a class at most K do: where n > K, one of each K-th part of them.

  Args:
    rings: of one network, without the axis N.
    E: embeddings [P,D].
    enters: bool [P,C], into the rings of which classes; a pixel may enter several.
    u: uniform in [0,1), [K]: which of its part is taken; K is at most the smallest ring.
    sizes: of the rings.
  """
  places, K = sum(sizes), len(u)
  size, first = (jnp.asarray(x, jnp.int32)[:, None] for x in (sizes, _first(sizes)))
  upto = jnp.cumsum(enters, axis=0, dtype=jnp.int32)
  n, j = upto[-1][:, None], jnp.arange(K, dtype=jnp.int32)[None]
  thinned = ((j + u[None]) * (n / K)).astype(jnp.int32)
  rank = jnp.where(n > K, jnp.minimum(thinned, n - 1), j)
  pixel = jax.vmap(jnp.searchsorted, (1, 0))(upto, rank + 1)
  kept = jnp.minimum(n, K)
  at = rings["at"][:, None]
  index = jnp.where(j < kept, first + (at + j) % size, places)  # beyond the end: dropped
  taken = E[jnp.minimum(pixel, len(E) - 1)].astype(rings["keys"].dtype)
  return {
    "keys": rings["keys"].at[index].set(taken, mode="drop"),
    "at": ((at + kept) % size)[:, 0],
    "filled": jnp.minimum(rings["filled"][:, None] + kept, size)[:, 0],
  }


def held(rings: Rings, c: jax.Array, u: jax.Array, sizes: Sequence[int]) -> jax.Array:
  """Returns embeddings [...,D] of class c drawn with replacement; zeros where it has none.

  Args:
    rings: of one network.
    c: the class, an int scalar.
    u: uniform in [0,1), [...].
    sizes: of the rings.
  """
  first = jnp.asarray(_first(sizes), jnp.int32)[c]
  return rings["keys"][first + place(u, rings["filled"][c])]


def _first(sizes: Sequence[int]) -> np.ndarray:
  return np.cumsum((0, *sizes[:-1]))
