"""CutMix masks: the toggling boxes of CPS, and the single box of UniMatch; CutOut's square.

Sources: CutMix-Seg's box mask generator (French et al., BMVC 2020) with TorchSemiSeg's settings;
UniMatch (Yang et al., CVPR 2023); CutOut (DeVries and Taylor, 2017) as in PseudoSeg.
"""

import jax
import jax.numpy as jnp

from semiseg_jax.ops.boxes import AREA, RATIO, TRIES, inside_boxes, single_boxes


def box_masks(
  u_area: jax.Array,
  u_aspect: jax.Array,
  u_position: jax.Array,
  *,
  height: int,
  width: int,
  area_range: tuple[float, float],
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
  inside = inside_boxes(jnp.concatenate([start, start + size], -1), height, width)
  return (inside.astype(jnp.int32).sum(1) % 2).astype(bool)


def draw_box_masks(
  keys: jax.Array,
  *,
  height: int,
  width: int,
  boxes: int,
  area_range: tuple[float, float],
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


def draw_single_box_masks(
  keys: jax.Array,
  *,
  height: int,
  width: int,
  probability: float,
  area_range: tuple[float, float] = AREA,
  ratio_range: tuple[float, float] = RATIO,
  tries: int = TRIES,
) -> jax.Array:
  """Draws UniMatch's mask per example: bool [B,H,W] for typed keys [B], true = the partner's.

  With `probability` (published: 1/2) there is one box of 2 to 40 percent of the picture; none
  where no try fits.
  """
  uniform = jax.vmap(lambda key: jax.random.uniform(key, (2 + 3 * tries,)))(keys)
  gate, u_area = uniform[:, 0], uniform[:, 1]
  u = uniform[:, 2:].reshape(-1, tries, 3)
  boxes = single_boxes(
    u_area,
    u[..., 0],
    u[..., 1:],
    height=height,
    width=width,
    area_range=area_range,
    ratio_range=ratio_range,
  )
  boxes = jnp.where((gate < probability)[:, None], boxes, 0)
  return inside_boxes(boxes, height, width)


def square_masks(u: jax.Array, *, height: int, width: int, side: int) -> jax.Array:
  """Returns CutOut's squares, bool [B,H,W]: their center is any pixel, borders cut them off.

  Args:
    u: [B,2], uniform in [0,1), (y, x) of the center.
    height: of the masks, pixels.
    width: of the masks, pixels.
    side: of the square, pixels; an odd one is rounded down.
  """
  center = jnp.floor(u * jnp.asarray([height, width], u.dtype)[None])
  return inside_boxes(jnp.concatenate([center - side // 2, center + side // 2], -1), height, width)
