"""CutOut: a box of a picture becomes noise, and its pixels teach nothing.

Source: ST++ (Yang et al., CVPR 2022); the law of its boxes is that of Random Erasing (Zhong et al.,
AAAI 2020).  PseudoSeg's square is `cutmix.square_masks`.
"""

import jax
import jax.numpy as jnp

from semiseg_jax.ops.boxes import AREA, RATIO, TRIES, inside_boxes, single_boxes


def draw_cutout(
  keys: jax.Array, *, size: tuple[int, int], channels: int, probability: float
) -> tuple[jax.Array, jax.Array]:
  """Draws a box per example and the noise in it: (bool [B,H,W], float [B,H,W,channels] in [0,1)).

  With `probability` there is one box of 2 to 40 percent of the picture and a height of 0.3 to 1/0.3
  times its width; none where no try of an area, a ratio and a place fits.

  Args:
    keys: typed [B].
    size: (H, W).
    channels: of the pictures.
    probability: of a box.
  """
  split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
  gate = jax.vmap(jax.random.uniform)(split[:, 0])
  u = jax.vmap(lambda key: jax.random.uniform(key, (TRIES, 4)))(split[:, 1])
  noise = jax.vmap(lambda key: jax.random.uniform(key, (*size, channels)))(split[:, 2])
  boxes = single_boxes(
    u[..., 0],
    u[..., 1],
    u[..., 2:],
    height=size[0],
    width=size[1],
    area_range=AREA,
    ratio_range=RATIO,
  )
  boxes = jnp.where((gate < probability)[:, None], boxes, 0)
  return inside_boxes(boxes, *size), noise
