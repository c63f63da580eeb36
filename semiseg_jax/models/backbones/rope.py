"""Rotary positions of patches as DINOv3 has them: axial, on coordinates of the picture.

Siméoni et al., "DINOv3", 2025; rotations: Su et al., "RoFormer", 2021.
"""

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.ops import symbolic

BASE = 100.0  # the longest period is nearly this many halves of a picture
AUGMENTS = 5  # numbers that one augmentation takes
Tables = tuple[jax.Array, jax.Array]  # cos and sin, [b,T,1,d/2] each; b = B or 1


def coordinates(grid: tuple[int, int]) -> np.ndarray | jax.Array:
  """(y, x) of the centers of gh x gw patches, row by row: [gh*gw,2], float64 of known sides.

  Each axis runs from -1 to 1 over the picture, whatever the shape of that is.
  """
  of = np if symbolic.is_known(*grid) else jnp
  rows, columns = ((2 * of.arange(size) + 1) / size - 1 for size in grid)
  return of.stack(of.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def augment(
  places: jax.Array, u: jax.Array, *, shift: float, jitter: float, rescale: float
) -> jax.Array:
  """What pretraining does to coordinates: (c + shift u_1) jitter^u_2 rescale^u_3 per picture.

  Args:
    places: [1,T,2].
    u: [B,AUGMENTS] of -1..1: two of the shift, two of the jitter, one of both axes.
    shift: at most, 0 or more.
    jitter: factor of an axis at most, 1 or more.
    rescale: factor of both axes at most, 1 or more.

  Returns:
    [B,T,2].
  """
  u = u[:, None]
  return (places + shift * u[..., :2]) * jitter ** u[..., 2:4] * rescale ** u[..., 4:]


def periods(width: int) -> np.ndarray:
  """Periods of one axis for heads of `width` channels: BASE^(4i/width), float64 [width/4]."""
  count = width // 4
  return BASE ** (np.arange(count) / count)


def tables(places: jax.Array, width: int, others: int) -> Tables:
  """Cos and sin of 2 pi coordinate / period, those of y in front of those of x.

  Args:
    places: coordinates [b,T,2], in the dtype of the tables.
    width: channels of a head, a multiple of 4.
    others: tokens in front of the patches, which are not rotated.
  """
  period = jnp.asarray(periods(width), places.dtype).reshape(1, 1, 1, -1)
  angles = 2 * np.pi * places[..., None] / period
  angles = angles.reshape(*places.shape[:2], 1, width // 2)
  angles = jnp.pad(angles, ((0, 0), (others, 0), (0, 0), (0, 0)))
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotations: Tables) -> jax.Array:
  """Turns channels i and i + d/2 of each head by angle i: [B,T,heads,d], in the tables' dtype."""
  cos, sin = rotations
  first, second = jnp.split(x.astype(cos.dtype), 2, -1)
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned, -1).astype(x.dtype)
