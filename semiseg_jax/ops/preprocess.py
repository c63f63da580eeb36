"""uint8 pictures to network input, on the device."""

import jax
import jax.numpy as jnp

from semiseg_jax.ops.boxes import inside_boxes


def normalize(
  images: jax.Array,
  valid: jax.Array | None,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
  """Returns (u8 / 255 - mean) / std, and 0 outside the rectangles `valid`.

  No uint8 value becomes exactly 0, so the published padding after normalization (the mean color)
  needs the rectangle.

  Args:
    images: uint8 [B,H,W,C].
    valid: int32 [B,4], y0, x0, y1, x1 of the real pixels; None takes padding as it is.
    mean: per channel, in units of 1.
    std: per channel, in units of 1.
    dtype: of the result.
  """
  mean_C, std_C = jnp.asarray(mean, dtype), jnp.asarray(std, dtype)
  x = (images.astype(dtype) / 255 - mean_C[None, None, None]) / std_C[None, None, None]
  if valid is None:
    return x
  inside = inside_boxes(valid, *images.shape[1:3])
  return jnp.where(inside[..., None], x, jnp.zeros((), dtype))
