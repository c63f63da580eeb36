"""G-Cutout of CCT (Ouali et al., CVPR 2020): a part of the box around each object is erased.

An object is an 8-connected region of a mask.  In the paper objects are what a main decoder takes
for foreground.  `regions` finds them on the device; `contours` as the released code does, on the
host, by OpenCV.
"""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from semiseg_jax.ops.resize import nearest_places

MOST = 64  # objects of a picture
VERTICES = 50  # contours of more than that take part in the released code
Boxes = tuple[jax.Array, jax.Array]  # int32 [B,S,4]: y0, x0, y1, x1, ends included; bool [B,S]


def regions(M: jax.Array, size: tuple[int, int], most: int = MOST) -> Boxes:
  """Returns the boxes of the `most` largest 8-connected regions of masks bool [B,h,w].

  Args:
    M: masks on a grid.
    size: (H, W), in whose pixels boxes are given.  A cell of the grid reads its first pixel and
      stands for all of them up to the next cell's, or to the border.
    most: S, or the cells of the grid where these are fewer.
  """
  _, height, width = M.shape
  number = connected(M).reshape(len(M), -1)
  cells = height * width
  rows, columns = (jnp.asarray(nearest_places(*sides)) for sides in zip(size, (height, width)))
  grid = lambda rows, columns: (jnp.repeat(rows, width), jnp.tile(columns, height))
  (y0, x0), (y1, x1) = grid(rows, columns), grid(_ends(rows, size[0]), _ends(columns, size[1]))

  def of_picture(number: jax.Array) -> tuple[jax.Array, jax.Array]:
    of = jnp.where(number < 0, cells, number)  # one region more: what is in none
    over = lambda reduce, values: reduce(values, of, num_segments=cells + 1)[:cells]
    areas = over(jax.ops.segment_sum, jnp.ones(cells, jnp.int32))
    area, chosen = lax.top_k(areas, min(most, cells))
    first, last = jax.ops.segment_min, jax.ops.segment_max
    box = jnp.stack([over(first, y0), over(first, x0), over(last, y1), over(last, x1)], -1)
    return box[chosen].astype(jnp.int32), area > 0

  return jax.vmap(of_picture)(number)


def _ends(starts: jax.Array, side: int) -> jax.Array:
  """Returns the last pixel of each cell of one axis, its first ones given."""
  return jnp.maximum(jnp.append(starts[1:], side) - 1, starts)


def connected(M: jax.Array) -> jax.Array:
  """Returns int32 [B,h,w]: the last cell (counted by rows) of each cell's region; -1 outside."""
  batch, height, width = M.shape
  start = jnp.where(M, jnp.arange(height * width, dtype=jnp.int32).reshape(1, height, width), -1)

  def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    old, _ = state
    new = lax.reduce_window(old, np.int32(-1), lax.max, (1, 3, 3), (1, 1, 1), "SAME")
    new = jnp.where(M, new, -1).reshape(batch, -1)
    # A cell takes over what its region's last cell so far knows: few rounds even in a spiral.
    new = jnp.where(new < 0, -1, jnp.take_along_axis(new, jnp.maximum(new, 0), 1))
    return (new := new.reshape(M.shape)), (new != old).any()

  return lax.while_loop(lambda state: state[1], spread, (start, jnp.asarray(True)))[0]


def contours(M: jax.Array, most: int = MOST) -> Boxes:
  """Returns the boxes of outer contours of more than 50 vertices, of masks bool [B,H,W].

  Contours and their order are OpenCV's, straight runs compressed to their ends: a clean rectangle
  has four vertices and takes no part.  It runs on the host, so the device waits for it.
  """
  shapes = (
    jax.ShapeDtypeStruct((len(M), most, 4), jnp.int32),
    jax.ShapeDtypeStruct((len(M), most), bool),
  )
  return jax.pure_callback(lambda M: _contours_on_host(np.asarray(M), most), shapes, M)


def outlines(M: np.ndarray) -> list[tuple[int, tuple[int, int, int, int]]]:
  """Returns the vertices and the box (y0, x0, y1, x1) of each outer contour of a mask [H,W]."""
  found, _ = cv2.findContours(M.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
  lines = [line.reshape(-1, 2)[:, ::-1] for line in found]
  return [(len(line), (*line.min(0).tolist(), *line.max(0).tolist())) for line in lines]


def _contours_on_host(M: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
  boxes, used = np.zeros((len(M), most, 4), np.int32), np.zeros((len(M), most), bool)
  for picture, box, has in zip(M, boxes, used):
    chosen = [found for vertices, found in outlines(picture) if vertices > VERTICES][:most]
    box[: len(chosen)], has[: len(chosen)] = np.reshape(chosen, (-1, 4)), True
  return boxes, used


def kept(
  boxes: Boxes,
  u: jax.Array,
  *,
  share: float,
  picture: tuple[int, int],
  size: tuple[int, int],
) -> jax.Array:
  """Returns bool [B,h,w], false where a box loses a part: `share` of each side, anywhere in it.

  A box of the height n = y1 - y0 loses int(share n) rows, the first of them uniform in y0 .. y0 +
  int((1 - share) n), end included; columns likewise.

  Args:
    boxes: and which of them there are.
    u: [B,S,2], uniform in [0,1), of rows and columns.
    share: of a side.
    picture: (H, W), in whose pixels boxes are.
    size: (h, w) of the mask, which reads the nearest pixels.
  """
  (box, used), erased = boxes, []
  for axis in (0, 1):
    first = box[..., axis]
    length = box[..., axis + 2] - first
    n = np.arange(picture[axis])  # in float64, as Python rounds
    cut, room = (jnp.asarray((x * n).astype(int)) for x in (share, 1 - share))
    start = first + jnp.floor(u[..., axis] * (room[length] + 1)).astype(first.dtype)
    at = jnp.asarray(nearest_places(picture[axis], size[axis]))[None, None]
    inside = (at >= start[..., None]) & (at < (start + cut[length])[..., None])
    erased.append((inside & used[..., None]).astype(jnp.float32))
  return jnp.einsum("bsh,bsw->bhw", *erased) == 0
