"""Random ensembles of a queue of networks (PrevMatch, Shin et al., 2024)."""

import jax
import jax.numpy as jnp


def draw_ensemble(
  u: jax.Array, filled: jax.Array, *, places: int, most: int, random_number: bool
) -> tuple[jax.Array, jax.Array]:
  """Draws n of the networks in a queue without replacement, and weights of sum 1.

  n is 1 to `most` with equal probabilities, or `most`; not more than there are.  The weights are
  those of a Dirichlet(1, ..., 1) of n: exponential numbers over their sum.

  Args:
    u: uniform in [0,1), [1 + places + most].
    filled: int, how many places of the queue hold a network: the first ones.
    places: K of the queue.
    most: M, at most K.
    random_number: whether n is drawn.

  Returns:
    Places int32 [M] and their weights [M], 0 from the n-th on; all 0 where the queue is empty.
  """
  n = 1 + (u[0] * most).astype(jnp.int32) if random_number else most
  n = jnp.minimum(n, filled)
  order = jnp.where(jnp.arange(places) < filled, u[1 : 1 + places], 2)
  weights = jnp.where(jnp.arange(most) < n, -jnp.log1p(-u[1 + places :]), 0)
  tiny = jnp.finfo(weights.dtype).tiny
  return jnp.argsort(order)[:most].astype(jnp.int32), weights / jnp.maximum(weights.sum(), tiny)
