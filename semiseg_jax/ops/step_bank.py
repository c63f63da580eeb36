"""The pixels of the last steps: embeddings and labels, the oldest step first."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Bank = dict[str, jax.Array]


def empty_bank(copies: int, steps: int, rows: int, width: int) -> dict[str, np.ndarray]:
  """Returns the banks of N networks before the first step, numpy.

  'keys' float32 [N,S,R,D], 'labels' uint8 [N,S,R], 'held' bool [N,S,R]: whether a row holds a
  pixel.

  Args:
    copies: N.
    steps: S.
    rows: R, pixels of a step.
    width: D.
  """
  shape = (copies, steps, rows)
  return {
    "keys": np.zeros((*shape, width), np.float32),
    "labels": np.zeros(shape, np.uint8),
    "held": np.zeros(shape, bool),
  }


def drawn_rows(z: jax.Array, y: jax.Array, u: jax.Array, *, groups: int, number: int) -> Bank:
  """Returns pixels drawn without replacement from each group of pictures: the rows of a step.

  'keys' [G * number, D], 'labels', 'held'; what a group lacks to `number` pixels is not held.

  Args:
    z: embeddings [B,h,w,D], which get no gradient.
    y: labels int [B,h,w].
    u: random numbers [B,h,w]: the smallest ones are taken, in their order.
    groups: G, into which the batch is cut.
    number: of pixels of a group.
  """
  flat = lambda x, *more: lax.stop_gradient(x).reshape(groups, -1, *more)
  keys, labels, u = flat(z, z.shape[-1]), flat(y), flat(u)
  there = min(number, u.shape[1])
  _, index = lax.top_k(-u, there)
  keys = jnp.take_along_axis(keys, index[..., None], axis=1)
  labels = jnp.take_along_axis(labels, index, axis=1).astype(jnp.uint8)
  fill = lambda x: jnp.pad(x, [(0, 0), (0, number - there)] + [(0, 0)] * (x.ndim - 2))
  rows = {"keys": keys, "labels": labels, "held": jnp.ones(labels.shape, bool)}
  return {name: fill(x).reshape(-1, *x.shape[2:]) for name, x in rows.items()}


def pushed(bank: Bank, rows: Bank) -> Bank:
  """Returns the bank of one network [S,R,...] with the rows of a step [R,...] for its oldest."""
  push = lambda old, new: jnp.concatenate([old[1:], new[None].astype(old.dtype)])
  return {name: push(old, rows[name]) for name, old in bank.items()}
