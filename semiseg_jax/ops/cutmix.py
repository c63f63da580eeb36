"""CutMix masks: the toggling boxes of CPS, and the single box of UniMatch; CutOut's square.

Sources: CutMix-Seg's box mask generator (French et al., BMVC 2020) with TorchSemiSeg's settings;
UniMatch (Yang et al., CVPR 2023); CutOut (DeVries and Taylor, 2017) as in PseudoSeg.
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


def draw_single_box_masks(
  keys: jax.Array,
  *,
  height: int,
  width: int,
  probability: float,
  area_range: tuple[float, float] = (0.02, 0.4),
  ratio_range: tuple[float, float] = (0.3, 1 / 0.3),
  tries: int = 256,
) -> jax.Array:
  """Draws UniMatch's mask per example: bool [B,H,W] for typed keys [B], true = the partner's.

  With `probability` (published: 1/2) there is one box of 2 to 40 percent of the picture.  The
  published code tries until a box fits; of 256 tries none fits with a probability below 1e-9 for
  the largest area, and then there is no box.
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


def inside_boxes(boxes: jax.Array, height: int, width: int) -> jax.Array:
  """Returns bool [...,H,W], true inside the boxes [...,4] = y0, x0, y1, x1."""
  y0, x0, y1, x1 = (boxes[..., i, None, None] for i in range(4))
  leading = (1,) * (boxes.ndim - 1)
  ys = jnp.arange(height, dtype=boxes.dtype).reshape(*leading, height, 1)
  xs = jnp.arange(width, dtype=boxes.dtype).reshape(*leading, 1, width)
  return (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)
