"""ResNet-50/101 with a deep stem of 64, 64 and 128 channels ("v1c" of the CPS code base).

Three 3x3 convolutions replace the 7x7; the stride of a bottleneck sits on its 3x3.  At output
stride 16 the last layer keeps its resolution and its blocks are dilated by 2, 4 and 8.
"""

import functools

import jax
from flax import linen as nn

from semiseg_jax.models.layers import ConvNorm, Mode, max_pool

# Our modules -> those of the code base.
TORCH_NAMES = (
  (r"stem/unit1/conv", r"conv1.0"),
  (r"stem/unit1/bn", r"conv1.1"),
  (r"stem/unit2/conv", r"conv1.3"),
  (r"stem/unit2/bn", r"conv1.4"),
  (r"stem/unit3/conv", r"conv1.6"),
  (r"stem/unit3/bn", r"bn1"),
  (r"layer(\d)_(\d+)/unit(\d)/(conv|bn)", r"layer\1.\2.\4\3"),
  (r"layer(\d)_(\d+)/downsample/conv", r"layer\1.\2.downsample.0"),
  (r"layer(\d)_(\d+)/downsample/bn", r"layer\1.\2.downsample.1"),
)

# Stride and dilation of each block of layer4 per output stride; one pair per block.
LAYER4 = {16: ((1, 2), (1, 4), (1, 8)), 32: ((2, 1), (1, 1), (1, 1))}


class Stem(nn.Module):
  """Three 3x3 convolutions and a maximum pool: stride 4, 128 channels."""

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/4,W/4,128]."""
    for i, (width, stride) in enumerate(((64, 2), (64, 1), (128, 1))):
      x = ConvNorm(width, 3, stride, name=f"unit{i + 1}")(x, mode)
    return max_pool(x, 3, 2, 1)


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolution to 4 `width` channels, and a shortcut."""

  width: int
  stride: int
  dilation: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/stride,W/stride,4 width]."""
    features = 4 * self.width
    shortcut = x
    if self.stride > 1 or x.shape[-1] != features:
      shortcut = ConvNorm(features, 1, self.stride, activation=None, name="downsample")(x, mode)
    x = ConvNorm(self.width, name="unit1")(x, mode)
    x = ConvNorm(self.width, 3, self.stride, self.dilation, name="unit2")(x, mode)
    x = ConvNorm(features, activation=None, name="unit3")(x, mode)
    return jax.nn.relu(x + shortcut)


class ResNet(nn.Module):
  """Images [B,H,W,C] -> {'low': layer1, stride 4, 256 channels, 'high': layer4, 2048 channels}."""

  depths: tuple[int, int, int, int]
  output_stride: int = 16

  output_strides = tuple(LAYER4)
  options_block = ""
  fixed = ("depths",)
  torch_names = TORCH_NAMES

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return {"low": (4, 256), "high": (self.output_stride, 2048)}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    x = Stem(name="stem")(x, mode)
    maps = []
    for layer, depth in enumerate(self.depths, 1):
      for block in range(depth):
        stride, dilation = self._block(layer, block)
        x = Bottleneck(32 * 2**layer, stride, dilation, name=f"layer{layer}_{block}")(x, mode)
      maps.append(x)
    return {"low": maps[0], "high": maps[3]}

  def _block(self, layer: int, block: int) -> tuple[int, int]:
    if layer == 4:
      return LAYER4[self.output_stride][block]
    return (2 if layer > 1 and block == 0 else 1), 1


BACKBONES = {
  "resnet50_v1s": functools.partial(ResNet, depths=(3, 4, 6, 3)),
  "resnet101_v1s": functools.partial(ResNet, depths=(3, 4, 23, 3)),
}
