"""What the vision transformers share: patches, blocks, and levels of one stride."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax import lax

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Mode
from semiseg_jax.options import key

# Our modules and leaves -> those of the published code.
TORCH_NAMES = (
  (r"(\w+_tokens?|pos_embed)", r"\1"),
  (r"patch_embed", r"patch_embed.proj"),
  (r"block(\d+)/(ls\d)/gamma", r"blocks.\1.\2.gamma"),
  (r"block(\d+)/(attn|mlp)/(\w+)", r"blocks.\1.\2.\3"),
  (r"block(\d+)/(norm\d)", r"blocks.\1.\2"),
  (r"norm", r"norm"),
)


def flash_key() -> Any:
  """Returns the key `flash_attention`; each block of options declares its own."""
  return key(False, "True: cuDNN's, in bfloat16 on NVIDIA GPUs from Ampere on")


class PatchEmbed(nn.Module):
  """A convolution with bias whose kernel and stride are `patch`, as one matrix product."""

  features: int
  patch: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """[B,patch gh,patch gw,C] -> [B,gh,gw,features]."""
    side, (batch, height, width, channels) = self.patch, x.shape
    law = initializers.Initializer("normal", 0.02)
    shape = (side, side, channels, self.features)
    kernel = self.param("kernel", initializers.declare(law, shape))
    zero = initializers.constant(0)
    bias = self.param("bias", initializers.declare(zero, (self.features,)))
    x = mode.cast(x).reshape(batch, height // side, side, width // side, side, channels)
    y = lax.dot_general(x, kernel.astype(x.dtype), (((2, 4, 5), (0, 1, 2)), ((), ())))
    return y + bias.astype(y.dtype).reshape(1, 1, 1, -1)


class VisionTransformer(nn.Module):
  """Base of the backbones: images [B,patch gh,patch gw,C] -> levels [B,gh,gw,width].

  The features 'level0' .. 'level3' are the outputs of the blocks `levels`, after the final layer
  normalization, without the tokens that are no patches; 'high' is the last.  The mask token of the
  published state dict is kept and never read.

  Attributes:
    width: of the tokens.
    depth: number of blocks.
    heads: of the attention.
    levels: blocks whose outputs are taken, from 0.
  """

  width: int
  depth: int
  heads: int
  levels: tuple[int, int, int, int]

  title = ""
  side_multiple = 1  # the patch
  usual_side = 1  # of pictures, for messages
  tokens = ()  # parameters in front of the first block, but for the patches'
  torch_names = TORCH_NAMES
  torch_optional = ("mask_token",)

  @property
  def output_strides(self) -> tuple[int]:
    """The one possible stride."""
    return (self.side_multiple,)

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    names = [f"level{i}" for i in range(len(self.levels))] + ["high"]
    return dict.fromkeys(names, (self.side_multiple, self.width))

  @property
  def layers(self) -> tuple[tuple[str, ...], ...]:
    """Units from the input to the output, but for the final normalization."""
    return (("patch_embed", *self.tokens), *((f"block{i}",) for i in range(self.depth)))

  def patches(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Images -> [B,gh,gw,width]; `ConfigError` for sides that are no multiples of the patch."""
    height, width = x.shape[1:3]
    patch = self.side_multiple
    if height % patch or width % patch:
      raise ConfigError(
        f"{self.title} takes pictures whose sides are multiples of {patch}, not {height}x{width}: "
        f"set data.crop and eval.window to such sizes, e.g. {self.usual_side}."
      )
    return PatchEmbed(self.width, patch, name="patch_embed")(x, mode)

  def run(
    self,
    x: jax.Array,
    grid: tuple[int, int],
    mode: Mode,
    block: Callable[[int, jax.Array], jax.Array],
    norm: nn.Module,
  ) -> dict[str, jax.Array]:
    """Tokens [B,n+gh*gw,width], the patches last, -> the features by name.

    Args:
      x: tokens.
      grid: (gh, gw).
      mode: of the call.
      block: (number, tokens) -> tokens.
      norm: the final normalization.
    """
    features, others = {}, x.shape[1] - grid[0] * grid[1]
    for i in range(self.depth):
      x = block(i, x)
      if i in self.levels:
        level = norm(x, mode)[:, others:].reshape(x.shape[0], *grid, self.width)
        features[f"level{self.levels.index(i)}"] = level
    return {**features, "high": level}

  def token(self, name: str, std: float, *shape: int) -> jax.Array:
    """Returns a parameter of the tokens."""
    law = initializers.Initializer("normal", std)
    return self.param(name, initializers.declare(law, shape))
