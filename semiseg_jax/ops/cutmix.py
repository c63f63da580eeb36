"""CutMix box masks of CPS: three boxes per image, each toggling its rectangle.

Source: CutMix-Seg's box mask generator (French et al., BMVC 2020) with TorchSemiSeg's settings.
"""

import jax
import jax.numpy as jnp


def box_masks(
  u_area: jax.Array,
  u_aspect: jax.Array,
  u_position: jax.Array,
  *,
  height: int,
  width: int,
  area_range: tuple[float, float] = (0.25, 0.5),
) -> jax.Array:
  """Returns bool [B,H,W]: true = take the second image.

  A box has the area proportion a = lo + (hi - lo) u_area, the y-proportion exp(u_aspect ln a) (log
  uniform between a and 1) and the x-proportion a / y; both times sqrt(1 / boxes); sizes and
  positions are rounded half to even, so a box lies always inside.  Boxes that overlap cancel.

  Args:
    u_area: [B,boxes], uniform in [0,1).
    u_aspect: [B,boxes], likewise.
    u_position: [B,boxes,2], likewise, (y, x).
    height: of the masks, pixels.
    width: of the masks, pixels.
    area_range: proportions of the image's area before the division by `boxes`.
  """
  low, high = area_range
  boxes = u_area.shape[1]
  area = low + (high - low) * u_area
  proportion_y = jnp.exp(u_aspect * jnp.log(area))
  proportions = jnp.stack([proportion_y, area / proportion_y], axis=-1) * (1 / boxes) ** 0.5
  frame = jnp.asarray([height, width], proportions.dtype)[None, None]
  size = jnp.round(proportions * frame)
  start = jnp.round((frame - size) * u_position)
  y0, x0 = start[..., 0, None, None], start[..., 1, None, None]
  y1, x1 = y0 + size[..., 0, None, None], x0 + size[..., 1, None, None]
  ys = jnp.arange(height, dtype=y0.dtype)[None, None, :, None]
  xs = jnp.arange(width, dtype=x0.dtype)[None, None, None, :]
  inside = (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)
  return (inside.astype(jnp.int32).sum(1) % 2).astype(bool)


def draw_box_masks(
  keys: jax.Array,
  *,
  height: int,
  width: int,
  boxes: int = 3,
  area_range: tuple[float, float] = (0.25, 0.5),
) -> jax.Array:
  """Draws one mask per example: returns bool [B,H,W] for typed keys [B]."""
  uniforms = jax.vmap(lambda key: jax.random.uniform(key, (boxes, 4)))(keys)
  return box_masks(
    uniforms[..., 0],
    uniforms[..., 1],
    uniforms[..., 2:],
    height=height,
    width=width,
    area_range=area_range,
  )
