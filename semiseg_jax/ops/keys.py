"""Random keys by name: (seed, stream name, step, global row); nothing is split and carried."""

import zlib

import jax


def named_key(key: jax.Array, name: str) -> jax.Array:
  """Returns the key of a named use of randomness."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def example_keys(key: jax.Array, name: str, rows: jax.Array) -> jax.Array:
  """Returns a key for each of the `rows` [B], numbers in the global batch; `key` is the step's."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(named_key(key, name), rows)
