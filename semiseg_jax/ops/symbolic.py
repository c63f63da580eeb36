"""Sides of pictures that are symbols while a program for pictures of any size is traced.

The matrices are those of `ops.resize`, made on the device from the sides that a call has: from
integers, so that they differ from the others by rounding alone.  Sides are below 2^15.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Side = Any  # int, or a symbolic dimension of jax.export


def is_known(*sides: Side) -> bool:
  """Whether none of the sides is a symbol."""
  return all(isinstance(side, int) for side in sides)


def bilinear_matrix(source: Side, target: Side, align_corners: bool) -> jax.Array:
  """`resize.bilinear_matrix` as float32 [target, source]."""
  out, last = jnp.arange(target, dtype=jnp.int32), _number(source) - 1
  if align_corners:
    top, bottom = out * last, jnp.maximum(_number(target) - 1, 1)
  else:
    top, bottom = (2 * out + 1) * (last + 1) - _number(target), 2 * _number(target)
  top = jnp.clip(top, 0, bottom * last)
  low = top // bottom
  share = ((top - low * bottom) / bottom)[:, None]
  at, low = jnp.arange(source, dtype=jnp.int32)[None], low[:, None]
  return jnp.where(at == low, 1 - share, 0) + jnp.where(at == low + 1, share, 0)


def cubic_matrix(
  source: Side, target: Side, scale: Any, kernel: Callable[..., jax.Array]
) -> jax.Array:
  """`resize.cubic_matrix` as float32 [target, source]; `kernel`: (distances, where) -> weights."""
  position = (jnp.arange(target, dtype=jnp.float32) + 0.5) / scale - 0.5
  low = jnp.floor(position)
  at, matrix = jnp.arange(source, dtype=jnp.int32)[None], 0
  for tap in range(-1, 3):
    near = jnp.clip(low.astype(jnp.int32) + tap, 0, _number(source) - 1)[:, None]
    weight = kernel(jnp.abs(position - (low + tap)), jnp.where)[:, None]
    matrix += jnp.where(at == near, weight, 0)
  return matrix


def unless(
  side: int, grid: tuple[Side, Side], matrices: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, ...]:
  """The matrices [target, side] of both axes, those that change nothing for a `grid` of `side`s."""
  same = (_number(grid[0]) == side) & (_number(grid[1]) == side)
  at = jnp.arange(side)[None]
  return tuple(
    jnp.where(same, at == jnp.arange(target)[:, None], matrix)
    for target, matrix in zip(grid, matrices)
  )


def average_matrix(source: Side, target: Side) -> jax.Array:
  """`resize.average_matrix` as float32 [target, source]."""
  at = jnp.arange(source, dtype=jnp.int32)[None]
  cell = jnp.arange(target, dtype=jnp.int32)[:, None]
  source, target = _number(source), _number(target)
  inside = (at >= cell * source // target) & (at < -(-(cell + 1) * source // target))
  return inside / inside.sum(1, keepdims=True)


def _number(side: Side) -> jax.Array:
  return jnp.asarray(side, jnp.int32)
