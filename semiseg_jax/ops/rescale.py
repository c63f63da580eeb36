"""Pictures scaled and cropped once more, on the device: another geometry for every picture.

Images follow Pillow's bilinear filter, labels take the pixels nearest to the centers.  A scaled
picture is padded by its mirror image, as in ReCo; labels are empty there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Axis(NamedTuple):
  """Where the pixels of one side of each crop come from.

  Attributes:
    weight: [B,n,n], of each pixel of the picture (last) in each pixel of the crop.
    nearest: int32 [B,n], the pixel that a label is taken from.
    inside: bool [B,n], not padding.
  """

  weight: jax.Array
  nearest: jax.Array
  inside: jax.Array


def axis(scale: jax.Array, u: jax.Array, side: int) -> Axis:
  """Returns the geometry of one side, of as many pixels in the crop as in the picture.

  The scaled picture has n' = int(scale n) pixels; the crop begins uniformly among n' - n + 1
  places, or at 0 where n' < n.

  Args:
    scale: [B].
    u: uniform in [0,1), [B]: where the crop begins.
    side: n.
  """
  scaled = jnp.maximum(jnp.floor(scale * side), 1)
  start = jnp.floor(u * (jnp.maximum(scaled - side, 0) + 1))
  out = jnp.arange(side, dtype=scale.dtype)[None]
  at, scaled = start[:, None] + out, scaled[:, None]
  period = jnp.maximum(2 * (scaled - 1), 1)
  folded = at % period
  folded = jnp.where(folded > scaled - 1, period - folded, folded)
  step = side / scaled
  reach = jnp.maximum(step, 1)  # a shrunken picture is averaged
  centers = jnp.arange(side, dtype=scale.dtype)[None, None] + 0.5
  distance = jnp.abs(centers - ((folded + 0.5) * step)[..., None])
  weight = jnp.maximum(1 - distance / reach[..., None], 0)
  whole = (2 * folded.astype(jnp.int32) + 1) * side  # no rounding at the edges of pixels
  nearest = jnp.minimum(whole // (2 * scaled.astype(jnp.int32)), side - 1)
  return Axis(weight / weight.sum(-1, keepdims=True), nearest, at < scaled)


def image_at(images: jax.Array, y: Axis, x: Axis) -> jax.Array:
  """Returns uint8 [B,H,W,C] of uint8 images [B,H,W,C], rounded once."""
  high = lax.Precision.HIGHEST
  found = jnp.einsum("boh,bhwc->bowc", y.weight, images.astype(y.weight.dtype), precision=high)
  found = jnp.einsum("bpw,bhwc->bhpc", x.weight, found, precision=high)
  return jnp.round(found).clip(0, 255).astype(jnp.uint8)


def map_at(maps: jax.Array, y: Axis, x: Axis, fill: int | None = None) -> jax.Array:
  """Returns maps [N,B,H,W] at the nearest pixels, `fill` on padding; None: mirrored like images."""
  found = jnp.take_along_axis(maps, y.nearest[None, :, :, None], axis=2)
  found = jnp.take_along_axis(found, x.nearest[None, :, None], axis=3)
  if fill is None:
    return found
  inside = y.inside[:, :, None] & x.inside[:, None]
  return jnp.where(inside[None], found, jnp.asarray(fill, maps.dtype))
