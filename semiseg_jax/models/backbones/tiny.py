"""A residual encoder of 56 thousand parameters: trains in a minute on two CPU cores."""

import jax
from flax import linen as nn

from semiseg_jax.models.layers import ConvNorm, Mode

WIDTHS = (8, 16, 32, 48)
# Strides of the four stages and dilation of the last, per output stride (the stem has stride 2).
STRIDES = {8: ((1, 2, 2, 1), 2), 16: ((1, 2, 2, 2), 1)}


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and a shortcut (projected where the shape changes)."""

  features: int
  stride: int
  dilation: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/stride,W/stride,features]."""
    shortcut = x
    y = ConvNorm(self.features, 3, self.stride, self.dilation, name="unit1")(x, mode)
    y = ConvNorm(self.features, 3, 1, self.dilation, activation=None, name="unit2")(y, mode)
    if shortcut.shape != y.shape:
      shortcut = ConvNorm(self.features, 1, self.stride, activation=None, name="downsample")(
        x, mode
      )
    return jax.nn.relu(y + shortcut)


class Tiny(nn.Module):
  """Images [B,H,W,C] -> {'low': stride 4, 16 channels, 'high': output stride, 48 channels}."""

  output_stride: int = 8

  output_strides = tuple(STRIDES)
  options_block = ""
  layers = (("stem",), *((f"stage{i}",) for i in (1, 2, 3, 4)))  # from the input to the output
  torch_names = ()

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return {"low": (4, WIDTHS[1]), "high": (self.output_stride, WIDTHS[3])}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    strides, dilation = STRIDES[self.output_stride]
    x = ConvNorm(8, 3, 2, name="stem")(x, mode)
    maps = []
    for i, (width, stride) in enumerate(zip(WIDTHS, strides)):
      x = BasicBlock(width, stride, dilation if i == 3 else 1, name=f"stage{i + 1}")(x, mode)
      maps.append(x)
    return {"low": maps[1], "high": maps[3]}


BACKBONES = {"tiny": Tiny}
