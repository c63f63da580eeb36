"""EfficientNet-Lite0 and Lite2 of TensorFlow, which timm calls tf_efficientnet_lite0 and _lite2.

MobileNet-like blocks without squeeze-and-excitation, ReLU6 everywhere, batch normalization with
epsilon 1e-3, without the last 1x1 convolution to 1280.  The published weights expect pictures in
(0..255 - 127) / 128, that is data.mean = (127/255,) * 3 and data.std = (128/255,) * 3.

timm's own efficientnet_lite0, without tf_, has the same tensors, but PyTorch's symmetric padding,
epsilon 1e-5 and momentum 0.1, and pictures normalized by ImageNet's mean and std: it is
'efficientnet_lite0_timm'.
"""

import functools

import jax
from flax import linen as nn

from semiseg_jax.models.layers import BatchNorm, Conv, Mode, relu6

# Kernel, first stride, expansion, channels and repeats of each row of blocks.
ROWS = {
  "efficientnet_lite0": (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
  ),
  "efficientnet_lite2": (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
  ),
}
# Our modules -> timm's.  Row 0 has no expansion, which moves the numbers of its normalizations.
TORCH_NAMES = (
  (r"stem/conv", r"conv_stem"),
  (r"stem/bn", r"bn1"),
  (r"block0_(\d+)/depthwise/conv", r"blocks.0.\1.conv_dw"),
  (r"block0_(\d+)/depthwise/bn", r"blocks.0.\1.bn1"),
  (r"block0_(\d+)/project/conv", r"blocks.0.\1.conv_pw"),
  (r"block0_(\d+)/project/bn", r"blocks.0.\1.bn2"),
  (r"block(\d)_(\d+)/expand/conv", r"blocks.\1.\2.conv_pw"),
  (r"block(\d)_(\d+)/expand/bn", r"blocks.\1.\2.bn1"),
  (r"block(\d)_(\d+)/depthwise/conv", r"blocks.\1.\2.conv_dw"),
  (r"block(\d)_(\d+)/depthwise/bn", r"blocks.\1.\2.bn2"),
  (r"block(\d)_(\d+)/project/conv", r"blocks.\1.\2.conv_pwl"),
  (r"block(\d)_(\d+)/project/bn", r"blocks.\1.\2.bn3"),
)


class Unit(nn.Module):
  """Convolution, batch normalization, ReLU6 if `clip`; the padding is TensorFlow's if `tf`."""

  features: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  groups: int = 1
  clip: bool = True
  tf: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,ceil(H/stride),ceil(W/stride),features]."""
    padding = "same" if self.tf else self.dilation * (self.kernel // 2)
    x = Conv(
      self.features, self.kernel, self.stride, self.dilation, padding, self.groups, name="conv"
    )(x, mode)
    momentum, epsilon = (0.01, 1e-3) if self.tf else (0.1, 1e-5)
    x = BatchNorm(momentum=momentum, epsilon=epsilon, name="bn")(x, mode)
    return relu6(x) if self.clip else x


class Block(nn.Module):
  """1x1 expansion, depthwise convolution, 1x1 projection; plus the input where the shapes agree."""

  features: int
  kernel: int
  stride: int
  dilation: int
  expansion: int
  tf: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,ceil(H/stride),ceil(W/stride),features]."""
    width = self.expansion * x.shape[-1]
    unit = functools.partial(Unit, tf=self.tf)
    y = unit(width, name="expand")(x, mode) if self.expansion > 1 else x
    y = unit(width, self.kernel, self.stride, self.dilation, width, name="depthwise")(y, mode)
    y = unit(self.features, clip=False, name="project")(y, mode)
    return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
  """Images [B,H,W,C] -> {'low': stride 4, 'high': output stride, 320 (Lite0) or 352 channels}.

  Below output stride 32 the blocks after a removed stride are dilated in its place; the block that
  loses its stride keeps the dilation it had.
  """

  rows: tuple[tuple[int, ...], ...]
  output_stride: int = 16
  tf: bool = True

  output_strides = (16, 8, 32)
  options_block = ""
  torch_names = TORCH_NAMES

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return {"low": (4, self.rows[1][3]), "high": (self.output_stride, self.rows[-1][3])}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    x = Unit(32, 3, 2, tf=self.tf, name="stem")(x, mode)
    stride, dilation, maps = 2, 1, []
    for row, (kernel, first, expansion, width, repeats) in enumerate(self.rows):
      for i in range(repeats):
        step = first if i == 0 else 1
        removed = step if stride * step > self.output_stride else 1
        shape = (width, kernel, step // removed, dilation, expansion)
        x = Block(*shape, self.tf, name=f"block{row}_{i}")(x, mode)
        stride, dilation = stride * step // removed, dilation * removed
      maps.append(x)
    return {"low": maps[1], "high": maps[-1]}


BACKBONES = {
  **{name: functools.partial(EfficientNetLite, rows=rows) for name, rows in ROWS.items()},
  "efficientnet_lite0_timm": functools.partial(
    EfficientNetLite, rows=ROWS["efficientnet_lite0"], tf=False
  ),
}
