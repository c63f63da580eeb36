"""The DPT head as UniMatch V2 has it: four levels of one stride, fused from the last to the first.

Ranftl et al., "Vision Transformers for Dense Prediction", ICCV 2021.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Conv, Mode
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.options import key

# Our modules -> those of the published code.
TORCH_NAMES = (
  (r"project(\d)", r"head.projects.\1"),
  (r"resize(\d)", r"head.resize_layers.\1"),
  (r"level(\d)", r"head.scratch.layer\1_rn"),
  (r"fuse(\d)/unit(\d)/conv(\d)", r"head.scratch.refinenet\1.resConfUnit\2.conv\3"),
  (r"fuse(\d)/out", r"head.scratch.refinenet\1.out_conv"),
  (r"output", r"head.scratch.output_conv.0"),
  (r"classifier", r"head.scratch.output_conv.2"),
)


class Upsample(nn.Module):
  """torch.nn.ConvTranspose2d whose kernel is its stride: a matrix product and a rearrangement.

  The kernel is [stride,stride,features,C].
  """

  features: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """[B,h,w,C] -> [B,stride h,stride w,features]."""
    s, (batch, height, width, channels) = self.stride, x.shape
    shape, fan_in = (s, s, self.features, channels), s * s * self.features  # PyTorch's fan in
    law = initializers.torch_kernel(fan_in)
    kernel = self.param("kernel", initializers.declare(law, shape))
    law = initializers.torch_bias(fan_in)
    bias = self.param("bias", initializers.declare(law, (self.features,)))
    x = mode.cast(x)
    y = jnp.einsum("bhwc,ijoc->bhiwjo", x, kernel.astype(x.dtype))
    y = y.reshape(batch, s * height, s * width, self.features)
    return y + bias.astype(y.dtype).reshape(1, 1, 1, -1)


class ResidualUnit(nn.Module):
  """z + conv(relu(conv(relu(z)))), 3x3 with bias."""

  @nn.compact
  def __call__(self, z: jax.Array, mode: Mode) -> jax.Array:
    """Returns a map like `z`."""
    y = _conv(z.shape[-1], 3, name="conv1")(jax.nn.relu(z), mode)
    return z + _conv(z.shape[-1], 3, name="conv2")(jax.nn.relu(y), mode)


class Fuse(nn.Module):
  """unit2(a + unit1(b)), resized to `size` with aligned corners, then a 1x1 convolution."""

  @nn.compact
  def __call__(
    self, a: jax.Array, b: jax.Array | None, size: tuple[int, int], mode: Mode
  ) -> jax.Array:
    """Returns [B,*size,F]; without `b`, unit1 has parameters and is not used, as published."""
    unit1 = ResidualUnit(name="unit1")
    if b is not None:
      a = a + unit1(b, mode)
    elif self.is_initializing():
      unit1(a, mode)
    a = ResidualUnit(name="unit2")(a, mode)
    return _conv(a.shape[-1], name="out")(resize_bilinear(a, size, True), mode)


class Dpt(nn.Module):
  """Levels 0 to 3 of one stride [B,h,w,D] -> logits [B,8h,8w,num_classes].

  The first level is brought to 4 times the grid, the second to 2, the third stays, the last is
  halved (rounded up).

  Attributes:
    num_classes: channels of the logits.
    width: channels while fusing (published: 64 for the small encoder, base 128, large 256).
    level_widths: channels of the levels before (base: 96, 192, 384, 768; large: 256, 512, 1024,
      1024).
  """

  num_classes: int
  width: int = key(
    64, "channels while fusing; published: small 64, base 128, large 256", at_least=1
  )
  level_widths: tuple[int, int, int, int] = key(
    (48, 96, 192, 384),
    "channels before; published: base 96 192 384 768, large 256 512 1024 1024",
    at_least=1,
  )

  needs = ("level0", "level1", "level2", "level3")
  align_corners = True
  torch_backbone = "backbone."
  torch_names = TORCH_NAMES

  def __post_init__(self):
    if len(self.level_widths) != len(self.needs):
      raise ConfigError(
        f"model.dpt.level_widths={self.level_widths}: one number of channels for each of the "
        f"{len(self.needs)} levels."
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name; 'features' are what the classifier saw."""
    w = self.level_widths
    levels = [_conv(w[i], name=f"project{i}")(features[f"level{i}"], mode) for i in range(4)]
    levels[0] = Upsample(w[0], 4, name="resize0")(levels[0], mode)
    levels[1] = Upsample(w[1], 2, name="resize1")(levels[1], mode)
    levels[3] = _conv(w[3], 3, 2, name="resize3")(levels[3], mode)
    levels = [
      _conv(self.width, 3, bias=False, name=f"level{i + 1}")(level, mode)
      for i, level in enumerate(levels)
    ]
    sizes = [level.shape[1:3] for level in levels]
    x, skip = levels[3], None
    for i in (3, 2, 1):
      x, skip = Fuse(name=f"fuse{i + 1}")(x, skip, sizes[i - 1], mode), levels[i - 1]
    x = Fuse(name="fuse1")(x, skip, (2 * sizes[0][0], 2 * sizes[0][1]), mode)
    x = jax.nn.relu(_conv(self.width, 3, name="output")(x, mode))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {
      "logits": _conv(self.num_classes, name="classifier")(x, mode.in_float32()),
      "features": x,
    }


def _conv(features: int, kernel: int = 1, stride: int = 1, *, bias: bool = True, name: str) -> Conv:
  return Conv(
    features,
    kernel,
    stride,
    padding=kernel // 2,
    bias=bias,
    law=initializers.torch_kernel,
    name=name,
  )
