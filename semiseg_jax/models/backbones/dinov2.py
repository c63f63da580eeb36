"""DINOv2 vision transformers (patch 14, no registers) as UniMatch V2 uses them.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from semiseg_jax.models.backbones.tokens import Block, LayerNorm
from semiseg_jax.models.backbones.vit import VisionTransformer, flash_key
from semiseg_jax.models.layers import Mode
from semiseg_jax.ops import symbolic
from semiseg_jax.ops.resize import cubic_matrix

PATCH = 14
GRID = 37  # of the table of positions: trained at 518 pixels


def interpolate_positions(table: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Positions of a grid of patches: [1,1+37*37,D] -> [1,1+gh*gw,D], the class position first.

  As published: bicubic, not antialiased, with the scale (g + 0.1) / 37 per axis, whose 0.1 moves
  every sample.  At 37x37 the table is taken as it is.  Computed in the dtype of the table.
  """
  if grid == (GRID, GRID):
    return table
  patches = table[0, 1:].reshape(GRID, GRID, -1)
  rows, columns = (
    jnp.asarray(cubic_matrix(GRID, size, (size + 0.1) / GRID), table.dtype) for size in grid
  )
  if not symbolic.is_known(*grid):
    rows, columns = symbolic.unless(GRID, grid, (rows, columns))
  moved = jnp.einsum("oh,pw,hwc->opc", rows, columns, patches, precision=lax.Precision.HIGHEST)
  return jnp.concatenate([table[:, :1], moved.reshape(1, -1, table.shape[-1])], 1)


class DinoV2(VisionTransformer):
  """A class token in front of the patches; a table of positions is added to both.

  Attributes:
    flash_attention: cuDNN's, see `tokens.attend`.
  """

  flash_attention: bool = flash_key()

  title = "DINOv2"
  side_multiple, usual_side = PATCH, GRID * PATCH
  tokens = ("cls_token", "pos_embed", "mask_token")
  options_block = "dinov2"

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name; `ConfigError` for sides that are no multiples of 14."""
    x = self.patches(x, mode)
    grid = x.shape[1:3]
    x = self._with_positions(x.reshape(x.shape[0], -1, self.width), grid)
    block = lambda i, x: Block(self.heads, self.flash_attention, name=f"block{i}")(x, mode)
    return self.run(x, grid, mode, block, LayerNorm(name="norm"))

  def _with_positions(self, patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Patches [B,gh*gw,D] -> tokens [B,1+gh*gw,D], in the dtype of the patches."""
    token = self.token("cls_token", 1e-6, 1, 1, self.width)
    table = self.token("pos_embed", 0.02, 1, 1 + GRID**2, self.width)
    self.token("mask_token", 1e-6, self.width, 1)  # transposed like every matrix
    first = jnp.broadcast_to(token.astype(patches.dtype), (patches.shape[0], 1, self.width))
    positions = interpolate_positions(table, grid).astype(patches.dtype)
    return jnp.concatenate([first, patches], 1) + positions


BACKBONES = {
  "dinov2_small": functools.partial(DinoV2, width=384, depth=12, heads=6, levels=(2, 5, 8, 11)),
  "dinov2_base": functools.partial(DinoV2, width=768, depth=12, heads=12, levels=(2, 5, 8, 11)),
  "dinov2_large": functools.partial(DinoV2, width=1024, depth=24, heads=16, levels=(4, 11, 17, 23)),
}
