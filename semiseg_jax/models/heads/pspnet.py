"""Pyramid pooling (Zhao et al. 2017) in two variants, which CCT and CAC count to their encoders.

'cct' (Ouali et al. 2020) has a sub-pixel decoder on it, 'cac' (the option `psp` of Lai et al. 2021)
a classifier.  Both were published with backbone resnet50_v1s at output stride 8 and the options
multi_grid=(1, 1, 1), dilate_first=False of `resnet`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Conv, ConvNorm, Mode
from semiseg_jax.ops.resize import pool_average, resize_bilinear
from semiseg_jax.options import key

# The names of a backbone with three convolutions before its pool -> those in CCT's networks.
TORCH_BACKBONE = (
  (r"conv1\.0\.(\w+)", r"encoder.base.0.0.conv1.\1"),
  (r"conv1\.1\.(\w+)", r"encoder.base.0.0.bn1.\1"),
  (r"conv1\.3\.(\w+)", r"encoder.base.0.0.conv2.\1"),
  (r"conv1\.4\.(\w+)", r"encoder.base.0.0.bn2.\1"),
  (r"conv1\.6\.(\w+)", r"encoder.base.0.0.conv3.\1"),
  (r"bn1\.(\w+)", r"encoder.base.0.0.bn3.\1"),
  (r"layer(\d\..*)", r"encoder.base.\1"),
  (r"(.*)", r"encoder.base.\1"),
)
VARIANTS = ("cct", "cac")
DECODER_NAMES = ((r"reduce", r"upsample.0"), (r"double(\d)", r"upsample.\1.conv"))


class PyramidPooling(nn.Module):
  """[B,h,w,c] and its means over grids of bins x bins cells -> [B,h,w,width]."""

  width: int
  bins: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,h,w,width] in the compute dtype."""
    maps = [x]
    for i, bins in enumerate(self.bins):
      y = ConvNorm(self.width, law=initializers.torch_kernel, name=f"stage{i}")(
        pool_average(x, (bins, bins)), mode
      )
      y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
      maps.append(resize_bilinear(y, x.shape[1:3], align_corners=False).astype(x.dtype))
    return ConvNorm(self.width, 3, law=initializers.torch_kernel, name="bottleneck")(
      jnp.concatenate(maps, -1), mode
    )


class SubPixelDecoder(nn.Module):
  """Features [B,h,w,c] -> {'logits': [B,8h,8w,num_classes] float32}, CCT's main or auxiliary one.

  Attributes:
    num_classes: channels of the logits.
    doublings: of the size, each a 1x1 convolution to four times the channels, a ReLU and a shuffle.
    last_relu: the last one has its ReLU as well, so that logits are never negative (published).
  """

  num_classes: int
  doublings: int
  last_relu: bool

  align_corners = True
  torch_names = DECODER_NAMES

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name."""
    x, mode = x.astype(jnp.promote_types(x.dtype, jnp.float32)), mode.in_float32()
    x = Conv(self.num_classes, name="reduce")(x, mode)
    for i in range(1, self.doublings + 1):
      x = Conv(4 * self.num_classes, bias=True, law=initializers.sub_pixel, name=f"double{i}")(
        x, mode
      )
      if i < self.doublings or self.last_relu:
        x = jax.nn.relu(x)
      x = pixel_shuffle(x)
    return {"logits": x}


def pixel_shuffle(x: jax.Array) -> jax.Array:
  """[B,h,w,4C] -> [B,2h,2w,C]: channel 4c + 2a + b of (y, x) is channel c of (2y + a, 2x + b)."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height, width, channels // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
  return x.reshape(batch, 2 * height, 2 * width, channels // 4)


class PSPNet(nn.Module):
  """Feature 'high' -> {'logits': [B,8h,8w,num_classes], 'features': [B,h,w,width]}.

  'features' are those of pyramid pooling: CCT perturbs them and gives them to its auxiliary
  decoders, CAC projects them.

  Attributes:
    num_classes: channels of the logits.
    variant: 'cct', or 'cac' with logits [B,h,w,num_classes].
    width: channels of every pooled branch and of the features (published: 2048 / 4).
    bins: cells along a side of each branch.
    doublings: of the size by the decoder: 3 turn output stride 8 into the picture's size.
    last_relu: see `SubPixelDecoder`.
  """

  num_classes: int
  variant: str = key(
    "cct", "'cac': one 1x1 convolution in place of the sub-pixel decoder", one_of=VARIANTS
  )
  width: int = key(
    512, "of every pooled branch and of the features; most of the head's cost", at_least=1
  )
  bins: tuple[int, ...] = key((1, 2, 3, 6), "cells along a side of each branch", at_least=1)
  doublings: int = key(
    3, "of the size: logits at 1/8 of the output stride", at_least=0, when={"variant": ("cct",)}
  )
  last_relu: bool = key(True, "logits are never negative, as published", when={"variant": ("cct",)})

  needs = ("high",)
  align_corners = True
  torch_backbone = TORCH_BACKBONE
  torch_names = (
    (r"pooling/stage(\d)/conv", r"encoder.psp.stages.\1.1"),
    (r"pooling/stage(\d)/bn", r"encoder.psp.stages.\1.2"),
    (r"pooling/bottleneck/conv", r"encoder.psp.bottleneck.0"),
    (r"pooling/bottleneck/bn", r"encoder.psp.bottleneck.1"),
    (r"classifier", r"classifier"),
    *((rf"decoder/{ours}", rf"main_decoder.{theirs}") for ours, theirs in DECODER_NAMES),
  )

  def __post_init__(self):
    if self.variant not in VARIANTS or min(self.bins, default=1) < 1 or self.doublings < 0:
      raise ConfigError(
        f"model.pspnet.variant={self.variant!r}: one of {', '.join(VARIANTS)}; "
        f"model.pspnet.bins={self.bins}: 1 cell or more along a side of each branch; "
        f"model.pspnet.doublings={self.doublings}: 0 or more."
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name."""
    x = PyramidPooling(self.width, self.bins, name="pooling")(features["high"], mode)
    return {**self._logits(x, mode), "features": x}

  def _logits(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    if self.variant == "cct":
      decoder = SubPixelDecoder(self.num_classes, self.doublings, self.last_relu, name="decoder")
      return decoder(x, mode)
    law = initializers.torch_kernel
    classifier = Conv(self.num_classes, bias=True, law=law, name="classifier")
    high = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {"logits": classifier(high, mode.in_float32())}
