"""MobileNetV2 (width 1) in torchvision's layout, without its last 1x1 convolution to 1280."""

import jax
from flax import linen as nn

from semiseg_jax.models.layers import ConvNorm, Mode, relu6

# Our modules -> torchvision's.
TORCH_NAMES = (
  (r"stem/conv", r"features.0.0"),
  (r"stem/bn", r"features.0.1"),
  (r"block1/depthwise/conv", r"features.1.conv.0.0"),
  (r"block1/depthwise/bn", r"features.1.conv.0.1"),
  (r"block1/project/conv", r"features.1.conv.1"),
  (r"block1/project/bn", r"features.1.conv.2"),
  (r"block(\d+)/expand/conv", r"features.\1.conv.0.0"),
  (r"block(\d+)/expand/bn", r"features.\1.conv.0.1"),
  (r"block(\d+)/depthwise/conv", r"features.\1.conv.1.0"),
  (r"block(\d+)/depthwise/bn", r"features.\1.conv.1.1"),
  (r"block(\d+)/project/conv", r"features.\1.conv.2"),
  (r"block(\d+)/project/bn", r"features.\1.conv.3"),
)

# Channels, repeats and first stride of each row of inverted residuals.
ROWS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class InvertedResidual(nn.Module):
  """1x1 expansion, depthwise 3x3, 1x1 projection; plus the input where the shapes agree."""

  features: int
  stride: int
  dilation: int
  expansion: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/stride,W/stride,features]."""
    width = self.expansion * x.shape[-1]
    y = x
    if self.expansion > 1:
      y = ConvNorm(width, activation=relu6, name="expand")(y, mode)
    y = ConvNorm(
      width, 3, self.stride, self.dilation, groups=width, activation=relu6, name="depthwise"
    )(y, mode)
    y = ConvNorm(self.features, activation=None, name="project")(y, mode)
    return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
  """Images [B,H,W,C] -> {'low': stride 4, 24 channels, 'high': output stride, 320 channels}.

  Below output stride 32 the blocks after a removed stride are dilated in its place; the block that
  loses its stride keeps the dilation it had.
  """

  output_stride: int = 16

  output_strides = (16, 8, 32)
  options_block = ""
  torch_names = TORCH_NAMES

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return {"low": (4, 24), "high": (self.output_stride, 320)}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    x = ConvNorm(32, 3, 2, activation=relu6, name="stem")(x, mode)
    features, stride, dilation, index = {}, 2, 1, 1
    for width, repeats, row_stride in ROWS:
      for i in range(repeats):
        step = row_stride if i == 0 else 1
        removed = step if stride * step > self.output_stride else 1
        x = InvertedResidual(
          width, step // removed, dilation, 1 if index == 1 else 6, name=f"block{index}"
        )(x, mode)
        stride, dilation, index = stride * step // removed, dilation * removed, index + 1
      if width == 24:
        features["low"] = x
    return {**features, "high": x}


BACKBONES = {"mobilenet_v2": MobileNetV2}
