"""The memory of pixel contrast: per class a queue of region means and a queue of pixels.

Section 3.3 of Wang et al., ICCV 2021.  The published code has defects that `reference` keeps.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from semiseg_jax.ops.contrast import shuffled_by_slot

Memory = dict[str, jax.Array]


def empty_memory(num_classes: int, size: int, width: int, seed: tuple[int, ...]) -> Memory:
  """Returns the queues before the first step, numpy: noise of unit length, pointers at 0.

  'region' and 'pixel' are [C,m,D], 'region_at' and 'pixel_at' int32 [C].
  """
  rng = np.random.default_rng(seed)
  noise = rng.standard_normal((2, num_classes, size, width)).astype(np.float32)
  region, pixel = noise / np.linalg.norm(noise, axis=-1, keepdims=True)
  at = np.zeros(num_classes, np.int32)
  return {"region": region, "pixel": pixel, "region_at": at, "pixel_at": at.copy()}


def empty_memories(copies: int, num_classes: int, size: int, width: int, seed: int) -> Memory:
  """Returns the queues of `copies` = N networks with a leading axis N, each drawn on its own."""
  found = [empty_memory(num_classes, size, width, (seed, k)) for k in range(copies)]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def draw_pixels(
  labels: jax.Array, u: jax.Array, num_classes: int, per_class: int, reference: bool = False
) -> jax.Array:
  """Draws up to f pixels of every class of a picture: int32 [C,f] of 0..P-1, -1 = none.

  Args:
    labels: int [P].
    u: [P], a random number per pixel: the smallest ones are taken.
    num_classes: C.
    per_class: f.
    reference: as published: a pixel's rank among the pixels of its class stands for its index.
  """
  labels = jnp.where(labels < num_classes, labels, num_classes).astype(jnp.int32)
  order, start, count = shuffled_by_slot(labels, u, num_classes)
  j = jnp.arange(per_class, dtype=jnp.int32)[None]
  pixel = order[jnp.minimum(start[:, None] + j, len(labels) - 1)]
  if reference:
    raster, _, _ = shuffled_by_slot(labels, jnp.arange(len(labels)), num_classes)
    place = jnp.zeros_like(raster).at[raster].set(jnp.arange(len(raster), dtype=jnp.int32))
    pixel = place[pixel] - start[:, None]
  return jnp.where(j < count[:, None], pixel, -1)


def enqueue(
  memory: Memory,
  embeddings: jax.Array,
  labels: jax.Array,
  pixels: jax.Array,
  reference: bool = False,
) -> Memory:
  """Returns the memory after B pictures, one after the other.

  Every class of a picture gives the mean of its embeddings, of unit length, and the drawn pixels;
  they take the next places of the rings.

  Args:
    memory: of C classes, m places and D channels.
    embeddings: [B,P,D] of unit length.
    labels: int [B,P]; what is not 0..C-1 is ignored.
    pixels: int [B,C,f], as `draw_pixels` gives them.
    reference: as published: class 0 gives nothing, the pixels' pointer advances by one however many
      are written, and those that do not fit take the last places and set it to 0.
  """
  classes, size, _ = memory["region"].shape
  rows = jnp.arange(classes)

  def add(memory: Memory, picture: tuple) -> tuple[Memory, None]:
    E, y, drawn = picture
    here = (y[None] == rows[:, None].astype(y.dtype)).astype(E.dtype)
    means = jnp.einsum("cp,pd->cd", here, E, precision=lax.Precision.HIGHEST)
    means /= jnp.maximum(here.sum(1), 1)[:, None]
    means /= jnp.maximum(jnp.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    takes = here.any(1) & ((rows > 0) | (not reference))
    at = memory["region_at"]
    region = memory["region"].at[rows, jnp.where(takes, at, size)].set(means, mode="drop")
    region_at = jnp.where(takes, (at + 1) % size, at)

    at = memory["pixel_at"]
    used = (drawn >= 0) & takes[:, None]
    K, j = used.sum(1, dtype=at.dtype), jnp.arange(drawn.shape[1], dtype=at.dtype)[None]
    if reference:
      fits = at + K < size
      place = jnp.where(fits, at, size - K)[:, None] + j
      pixel_at = jnp.where(takes, jnp.where(fits, at + 1, 0), at)
    else:
      place, pixel_at = (at[:, None] + j) % size, (at + K) % size
    place = jnp.where(used, place, size)  # beyond the end: dropped
    pixel = memory["pixel"].at[rows[:, None], place].set(E[jnp.maximum(drawn, 0)], mode="drop")
    found = {"region": region, "pixel": pixel, "region_at": region_at, "pixel_at": pixel_at}
    return found, None

  return lax.scan(add, memory, lax.stop_gradient((embeddings, labels, pixels)))[0]


def as_bank(memory: Memory, reference: bool = False) -> tuple[jax.Array, jax.Array]:
  """Returns the entries [C,2m,D], of every class its regions and then its pixels, and their labels.

  reference: as published: the entries of class 0 are left out, and as many zeros labeled 0 follow
    at the end.
  """
  bank = jnp.concatenate([memory["region"], memory["pixel"]], axis=1)
  labels = jnp.arange(len(bank), dtype=jnp.int32)
  if reference:
    bank = jnp.concatenate([bank[1:], jnp.zeros_like(bank[:1])])
    labels = jnp.roll(labels, -1)
  return lax.stop_gradient(bank), jnp.broadcast_to(labels[:, None], bank.shape[:2])
