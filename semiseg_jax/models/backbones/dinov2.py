"""DINOv2 vision transformers (patch 14, no registers) as UniMatch V2 uses them.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.backbones.tokens import Block, LayerNorm
from semiseg_jax.models.layers import Mode
from semiseg_jax.ops.resize import cubic_matrix
from semiseg_jax.options import key

PATCH = 14
GRID = 37  # of the table of positions: trained at 518 pixels
# Our modules and leaves -> those of the published code.
TORCH_NAMES = (
  (r"(cls_token|pos_embed|mask_token)", r"\1"),
  (r"patch_embed", r"patch_embed.proj"),
  (r"block(\d+)/(ls\d)/gamma", r"blocks.\1.\2.gamma"),
  (r"block(\d+)/(attn|mlp)/(\w+)", r"blocks.\1.\2.\3"),
  (r"block(\d+)/(norm\d)", r"blocks.\1.\2"),
  (r"norm", r"norm"),
)


class PatchEmbed(nn.Module):
  """A 14x14 convolution of stride 14 with bias, as one matrix product."""

  features: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """[B,14 gh,14 gw,C] -> [B,gh,gw,features]."""
    batch, height, width, channels = x.shape
    shape = (PATCH, PATCH, channels, self.features)
    law = initializers.Initializer("normal", 0.02)
    kernel = self.param("kernel", initializers.declare(law, shape))
    zero = initializers.constant(0)
    bias = self.param("bias", initializers.declare(zero, (self.features,)))
    x = mode.cast(x).reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, channels)
    y = lax.dot_general(x, kernel.astype(x.dtype), (((2, 4, 5), (0, 1, 2)), ((), ())))
    return y + bias.astype(y.dtype).reshape(1, 1, 1, -1)


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
  moved = jnp.einsum("oh,pw,hwc->opc", rows, columns, patches, precision=lax.Precision.HIGHEST)
  return jnp.concatenate([table[:, :1], moved.reshape(1, -1, table.shape[-1])], 1)


class DinoV2(nn.Module):
  """Images [B,14 gh,14 gw,C] -> {'level0' .. 'level3', 'high': the last}, each [B,gh,gw,width].

  The levels are the outputs of the blocks `levels`, after the final layer normalization, without
  the class token.  The mask token of the published state dict is kept and never read.

  Attributes:
    width: of the tokens.
    depth: number of blocks.
    heads: of the attention.
    levels: blocks whose outputs are taken, from 0.
    flash_attention: cuDNN's, see `tokens.attend`.
  """

  width: int
  depth: int
  heads: int
  levels: tuple[int, int, int, int]
  flash_attention: bool = key(False, "True: cuDNN's, in bfloat16 on NVIDIA GPUs from Ampere on")

  output_strides = (PATCH,)
  side_multiple = PATCH
  options_block = "dinov2"
  torch_names = TORCH_NAMES
  torch_optional = ("mask_token",)

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    names = [f"level{i}" for i in range(len(self.levels))] + ["high"]
    return dict.fromkeys(names, (PATCH, self.width))

  @property
  def layers(self) -> tuple[tuple[str, ...], ...]:
    """Units from the input to the output, but for the final normalization."""
    first = ("patch_embed", "cls_token", "pos_embed", "mask_token")
    return (first, *((f"block{i}",) for i in range(self.depth)))

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name; `ConfigError` for sides that are no multiples of 14."""
    batch, height, width, _ = x.shape
    if height % PATCH or width % PATCH:
      raise ConfigError(
        f"DINOv2 takes pictures whose sides are multiples of {PATCH}, not {height}x{width}: set "
        "data.crop and eval.window to such sizes, e.g. 518."
      )
    x = PatchEmbed(self.width, name="patch_embed")(x, mode)
    grid = x.shape[1:3]
    x = self._with_positions(x.reshape(batch, -1, self.width), grid)
    norm = LayerNorm(name="norm")
    features = {}
    for i in range(self.depth):
      x = Block(self.heads, self.flash_attention, name=f"block{i}")(x, mode)
      if i in self.levels:
        level = norm(x, mode)[:, 1:].reshape(batch, *grid, self.width)
        features[f"level{self.levels.index(i)}"] = level
    return {**features, "high": level}

  def _with_positions(self, patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Patches [B,gh*gw,D] -> tokens [B,1+gh*gw,D], in the dtype of the patches."""
    declared = lambda std, *shape: initializers.declare(
      initializers.Initializer("normal", std), shape
    )
    token = self.param("cls_token", declared(1e-6, 1, 1, self.width))
    table = self.param("pos_embed", declared(0.02, 1, 1 + GRID**2, self.width))
    self.param("mask_token", declared(1e-6, self.width, 1))  # transposed like every matrix
    first = jnp.broadcast_to(token.astype(patches.dtype), (len(patches), 1, self.width))
    positions = interpolate_positions(table, grid).astype(patches.dtype)
    return jnp.concatenate([first, patches], 1) + positions


BACKBONES = {
  "dinov2_small": functools.partial(DinoV2, width=384, depth=12, heads=6, levels=(2, 5, 8, 11)),
  "dinov2_base": functools.partial(DinoV2, width=768, depth=12, heads=12, levels=(2, 5, 8, 11)),
  "dinov2_large": functools.partial(DinoV2, width=1024, depth=24, heads=16, levels=(4, 11, 17, 23)),
}
