"""DINOv3 vision transformers (patch 16): rotary positions, four registers, keys without a bias.

Siméoni et al., "DINOv3", 2025.  The distilled sizes and the 7B teacher; the normalizations that
its pretraining has for class tokens alone touch no patch, so that there is none of them here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from semiseg_jax.models.backbones import rope
from semiseg_jax.models.backbones.tokens import Block, LayerNorm
from semiseg_jax.models.backbones.vit import VisionTransformer, flash_key
from semiseg_jax.models.layers import Mode
from semiseg_jax.options import key

PATCH, REGISTERS = 16, 4
EPSILON = 1e-5  # of the normalizations


class DinoV3(VisionTransformer):
  """A class token and four registers in front of the patches, whose places are rotations.

  The registers (the published code's storage tokens) attend and are dropped with the class token.
  In calls with `draws` the coordinates of each picture may be moved, as pretraining moves those of
  a whole batch; the published fine-tuning for segmentation leaves them.

  Attributes:
    gated: hidden channels of the SwiGLU, 0 = an MLP of 4 times the width.
    biased: of query, key and value those that have a bias.
    flash_attention: cuDNN's, see `tokens.attend`.
    rope_shift, rope_jitter, rope_rescale: see `rope.augment`.
  """

  gated: int = 0
  biased: str = "qv"
  flash_attention: bool = flash_key()
  rope_shift: float = key(
    0.0, "training moves patches by up to this many half pictures; never as published", at_least=0
  )
  rope_jitter: float = key(
    1.0, "training stretches each axis by up to this factor; never as published", at_least=1
  )
  rope_rescale: float = key(
    1.0, "training stretches both axes by up to this factor; 2 in pretraining", at_least=1
  )

  title = "DINOv3"
  side_multiple, usual_side = PATCH, 512
  tokens = ("cls_token", "storage_tokens", "mask_token")
  options_block = "dinov3"
  weights_license = "The weights of DINOv3 are under Meta's own license, the DINOv3 License."

  @property
  def torch_buffers(self) -> dict[str, np.ndarray]:
    """What the published state dict holds besides parameters: name -> array."""
    ones = np.ones(self.width, np.float32)
    mask = {"bias_mask": np.concatenate([ones, 0 * ones, ones])} if self.biased == "qv" else {}
    masks = {f"blocks.{i}.attn.qkv.{k}": v for i in range(self.depth) for k, v in mask.items()}
    periods = rope.periods(self.width // self.heads).astype(np.float32)
    return {"rope_embed.periods": periods, **masks}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name; `ConfigError` for sides that are no multiples of 16."""
    x = self.patches(x, mode)
    grid = x.shape[1:3]
    x = self._with_tokens(x.reshape(x.shape[0], -1, self.width))
    rotations = self._rotations(x, grid, mode)
    options = {"epsilon": EPSILON, "biased": self.biased, "gated": self.gated}

    def block(i: int, x: jax.Array) -> jax.Array:
      return Block(self.heads, self.flash_attention, **options, name=f"block{i}")(
        x, mode, rotations
      )

    return self.run(x, grid, mode, block, LayerNorm(EPSILON, name="norm"))

  def _with_tokens(self, patches: jax.Array) -> jax.Array:
    """Patches [B,gh*gw,D] -> tokens [B,1+REGISTERS+gh*gw,D]."""
    first = self.token("cls_token", 0.02, 1, 1, self.width)
    registers = self.token("storage_tokens", 0.02, 1, REGISTERS, self.width)
    self.token("mask_token", 0.0, self.width, 1)  # transposed like every matrix
    front = jnp.concatenate([first, registers], 1).astype(patches.dtype)
    front = jnp.broadcast_to(front, (patches.shape[0], *front.shape[1:]))
    return jnp.concatenate([front, patches], 1)

  def _rotations(self, x: jax.Array, grid: tuple[int, int], mode: Mode) -> rope.Tables:
    """Tables of the tokens `x`, in float32 at least."""
    high = jnp.promote_types(x.dtype, jnp.float32)
    places = jnp.asarray(rope.coordinates(grid)[None], high)
    moved = (self.rope_shift, self.rope_jitter, self.rope_rescale)
    if mode.draws is not None and moved != (0, 1, 1):
      u = mode.draws.uniform("rope", (len(x), rope.AUGMENTS)).astype(high)
      shift, jitter, rescale = moved
      places = rope.augment(places, u, shift=shift, jitter=jitter, rescale=rescale)
    return rope.tables(places, self.width // self.heads, x.shape[1] - grid[0] * grid[1])


# Levels: a quarter of the blocks apart, but for `large`, as in the published evaluations.
_SMALL = {"width": 384, "depth": 12, "heads": 6, "levels": (2, 5, 8, 11)}
_BASE = {"width": 768, "depth": 12, "heads": 12, "levels": (2, 5, 8, 11)}
_LARGE = {"width": 1024, "depth": 24, "heads": 16, "levels": (4, 11, 17, 23)}
_HUGE = {"width": 1280, "depth": 32, "heads": 20, "levels": (7, 15, 23, 31)}
_7B = {"width": 4096, "depth": 40, "heads": 32, "levels": (9, 19, 29, 39)}
BACKBONES = {
  "dinov3_small": functools.partial(DinoV3, **_SMALL),
  "dinov3_small_plus": functools.partial(DinoV3, **_SMALL, gated=1536),
  "dinov3_base": functools.partial(DinoV3, **_BASE),
  "dinov3_large": functools.partial(DinoV3, **_LARGE),
  "dinov3_huge_plus": functools.partial(DinoV3, **_HUGE, gated=5120),
  "dinov3_7b": functools.partial(DinoV3, **_7B, gated=8192, biased=""),
}
