"""Boxes in pictures: masks of them, and the first of several tries that fits."""

import jax
import jax.numpy as jnp

# Of the published CutOut and single-box CutMix: share of the picture, height / width.  They try
# until a box fits; of 256 tries none fits with a probability below 1e-9 for the largest area.
AREA, RATIO = (0.02, 0.4), (0.3, 1 / 0.3)
TRIES = 256


def inside_boxes(boxes: jax.Array, height: int, width: int) -> jax.Array:
  """Returns bool [...,H,W], true inside the boxes [...,4] = y0, x0, y1, x1."""
  y0, x0, y1, x1 = (boxes[..., i, None, None] for i in range(4))
  leading = (1,) * (boxes.ndim - 1)
  ys = jnp.arange(height, dtype=boxes.dtype).reshape(*leading, height, 1)
  xs = jnp.arange(width, dtype=boxes.dtype).reshape(*leading, 1, width)
  return (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)


def single_boxes(
  u_area: jax.Array,
  u_ratio: jax.Array,
  u_position: jax.Array,
  *,
  height: int,
  width: int,
  area_range: tuple[float, float],
  ratio_range: tuple[float, float],
) -> jax.Array:
  """Returns int32 [B,4], y0, x0, y1, x1: per image the first try of a box that fits, or zeros.

  The area A = (lo + (hi - lo) u_area) H W is one for all tries, unless each has its own.  A try has
  a ratio r uniform in `ratio_range`, the size int(sqrt(A r)) x int(sqrt(A / r)) (height, width) and
  its first corner anywhere in the picture; it fits when the whole box lies inside.

  Args:
    u_area: [B], uniform in [0,1); or [B,tries], an area for each try.
    u_ratio: [B,tries], likewise.
    u_position: [B,tries,2], likewise, (y, x).
    height: of the picture, pixels.
    width: of the picture, pixels.
    area_range: smallest and largest share of the picture.
    ratio_range: smallest and largest r.
  """
  (low, high), (flat, tall) = area_range, ratio_range
  area = (low + (high - low) * u_area).reshape(len(u_area), -1) * (height * width)
  ratio = flat + (tall - flat) * u_ratio
  size = jnp.floor(jnp.sqrt(jnp.stack([area * ratio, area / ratio], -1)))
  frame = jnp.asarray([height, width], size.dtype)[None, None]
  start = jnp.floor(frame * u_position)
  end = start + size
  fits = (end <= frame).all(-1)
  first = jnp.argmax(fits, axis=1)[:, None, None]
  box = jnp.take_along_axis(jnp.concatenate([start, end], -1), first, axis=1)[:, 0]
  return jnp.where(fits.any(1)[:, None], box, 0).astype(jnp.int32)
