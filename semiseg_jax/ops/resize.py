"""Resizing with PyTorch's coordinates, never antialiased.

Where a side is a symbol, as in a program for pictures of any size, the matrices are those of
`ops.symbolic`: float32, made on the device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from semiseg_jax.ops import symbolic


def bilinear_matrix(source: int, target: int, align_corners: bool) -> np.ndarray:
  """Returns the float64 matrix [target, source] that resizes one axis bilinearly.

  Output o reads the source position o (source - 1) / (target - 1) with `align_corners`, and
  (o + 1/2) source / target - 1/2, clamped to the picture, without.
  """
  if not symbolic.is_known(source, target):
    return symbolic.bilinear_matrix(source, target, align_corners)
  out = np.arange(target, dtype=np.float64)
  if align_corners:
    position = out * ((source - 1) / (target - 1) if target > 1 else 0.0)
  else:
    position = (out + 0.5) * (source / target) - 0.5
  position = np.clip(position, 0, source - 1)
  low = np.minimum(position.astype(np.int64), max(source - 2, 0))
  high = np.minimum(low + 1, source - 1)
  matrix = np.zeros((target, source))
  rows = np.arange(target)
  np.add.at(matrix, (rows, low), 1 - (position - low))
  np.add.at(matrix, (rows, high), position - low)
  return matrix


def cubic_matrix(source: int, target: int, scale: float) -> np.ndarray:
  """Returns the float64 matrix [target, source] that resizes one axis by cubic convolution.

  Output o reads around (o + 1/2) / scale - 1/2, four samples with the coefficient a = -0.75;
  samples beyond an edge are the edge's.  PyTorch's bicubic for a given `scale_factor`.
  """
  if not symbolic.is_known(source, target):
    return symbolic.cubic_matrix(source, target, scale, _cubic)
  position = (np.arange(target, dtype=np.float64) + 0.5) / scale - 0.5
  low = np.floor(position).astype(np.int64)
  matrix = np.zeros((target, source))
  for tap in range(-1, 3):
    weight = _cubic(np.abs(position - (low + tap)))
    np.add.at(matrix, (np.arange(target), np.clip(low + tap, 0, source - 1)), weight)
  return matrix


def _cubic(
  distance: np.ndarray | jax.Array, where: Callable[..., Any] = np.where, a: float = -0.75
) -> Any:
  """Keys' kernel (1981) at distances 0 to 2."""
  near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
  far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
  return where(distance <= 1, near, far)


def resize_bilinear(x: jax.Array, size: tuple[int, int], align_corners: bool) -> jax.Array:
  """Resizes `x` [...,H,W,C] to [...,h,w,C], (h, w) = `size`, in the dtype of `x`.

  Two matrix products in full precision, so that the gradient is two matrix products as well.
  In bfloat16 the weights are rounded to 8 bits: cast logits to float32 before.
  """
  height, width = x.shape[-3:-1]
  if height != size[0]:
    matrix = jnp.asarray(bilinear_matrix(height, size[0], align_corners), x.dtype)
    x = jnp.einsum("oh,...hwc->...owc", matrix, x, precision=lax.Precision.HIGHEST)
  if width != size[1]:
    matrix = jnp.asarray(bilinear_matrix(width, size[1], align_corners), x.dtype)
    x = jnp.einsum("pw,...hwc->...hpc", matrix, x, precision=lax.Precision.HIGHEST)
  return x


def nearest_places(source: int, target: int) -> np.ndarray:
  """Returns int [target]: the pixels floor(i source / target) that resizing an axis reads."""
  return np.arange(target) * source // target


def resize_nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resizes maps [...,H,W] to [...,h,w], (h, w) = `size`, by the nearest pixel, rounded down.

  As torch.nn.functional.interpolate.
  """
  rows, columns = (nearest_places(n, target) for n, target in zip(x.shape[-2:], size))
  return x[..., rows[:, None], columns[None]]


def average_matrix(source: int, target: int) -> np.ndarray:
  """Returns the float64 matrix [target, source] of adaptive average pooling along one axis.

  Output i is the mean of floor(i source / target) to ceil((i + 1) source / target), end excluded.
  """
  if not symbolic.is_known(source, target):
    return symbolic.average_matrix(source, target)
  at = np.arange(source)
  cell = np.arange(target)[:, None]
  inside = (at >= cell * source // target) & (at < -(-(cell + 1) * source // target))
  return inside / inside.sum(1, keepdims=True)


def pool_average(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Means of `x` [B,H,W,C] over (h, w) = `size` cells: [B,h,w,C], in float32 at least.

  PyTorch's adaptive average pooling: cells overlap by a pixel where the sides do not divide.
  """
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  rows, columns = (
    jnp.asarray(average_matrix(source, target), x.dtype)
    for source, target in zip(x.shape[1:3], size)
  )
  x = jnp.einsum("oh,bhwc->bowc", rows, x, precision=lax.Precision.HIGHEST)
  return jnp.einsum("pw,bhwc->bhpc", columns, x, precision=lax.Precision.HIGHEST)
