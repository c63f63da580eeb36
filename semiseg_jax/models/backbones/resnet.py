"""ResNet-18/34/50/101 with three stems, at output stride 8, 16 or 32.

Stems, as their weights are published: a 7x7 convolution of 64 channels (torchvision: 'resnet50'),
three 3x3 of 64, 64 and 128 (TorchSemiSeg, UniMatch, CCT, U2PL; timm's Gluon weights: '_v1s'), three
of 32, 32 and 64 (mmsegmentation: '_v1c').  The stride of a bottleneck sits on its 3x3.

Below output stride 32 the last layers keep their resolution and are dilated instead; code bases
differ in how (config block `resnet`; what is not named is at its default):

| code base | output stride | options | dilations of layer3, layer4 |
|---|---|---|---|
| TorchSemiSeg (CPS), CAC, PixelSSL | 16 | | 1 ...; 2, 4, 8 |
| UniMatch, ST++, ReCo | 16 | multi_grid=(1, 1, 1), dilate_first=False | 1 ...; 1, 2, 2 |
| the same, CCT | 8 | multi_grid=(1, 1, 1), dilate_first=False | 1, 2 ...; 2, 4, 4 |
| U2PL | 8 | multi_grid=(2, 2, 4), dilate_first=False, ceil_pool=True | 1, 2 ...; 4, 8, 16 |
| AdvSemiSeg, s4GAN | 8 | multi_grid=(1, 1, 1), caffe_stride=True, ceil_pool=True | 2 ...; 4, 4, 4 |
"""

import functools

import jax
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.layers import ConvNorm, Mode, max_pool
from semiseg_jax.options import key

# Channels and kernel of the convolutions of each stem; the first has stride 2.
STEMS = {
  "plain": ((64, 7),),
  "v1s": ((64, 3), (64, 3), (128, 3)),
  "v1c": ((32, 3), (32, 3), (64, 3)),
}
# Our modules -> those of the code bases.
STEM_NAMES = {
  "plain": ((r"stem/unit1/(conv|bn)", r"\g<1>1"),),
  "v1s": (
    (r"stem/unit1/conv", r"conv1.0"),
    (r"stem/unit1/bn", r"conv1.1"),
    (r"stem/unit2/conv", r"conv1.3"),
    (r"stem/unit2/bn", r"conv1.4"),
    (r"stem/unit3/conv", r"conv1.6"),
    (r"stem/unit3/bn", r"bn1"),
  ),
  "v1c": (
    (r"stem/unit1/conv", r"stem.0"),
    (r"stem/unit1/bn", r"stem.1"),
    (r"stem/unit2/conv", r"stem.3"),
    (r"stem/unit2/bn", r"stem.4"),
    (r"stem/unit3/conv", r"stem.6"),
    (r"stem/unit3/bn", r"stem.7"),
  ),
}
LAYER_NAMES = (
  (r"layer(\d)_(\d+)/unit(\d)/(conv|bn)", r"layer\1.\2.\4\3"),
  (r"layer(\d)_(\d+)/downsample/conv", r"layer\1.\2.downsample.0"),
  (r"layer(\d)_(\d+)/downsample/bn", r"layer\1.\2.downsample.1"),
)


class Stem(nn.Module):
  """Convolutions and a maximum pool: stride 4."""

  kind: str
  ceil_pool: bool

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/4,W/4,64 or 128]."""
    for i, (width, kernel) in enumerate(STEMS[self.kind], 1):
      x = ConvNorm(width, kernel, 2 if i == 1 else 1, name=f"unit{i}")(x, mode)
    return max_pool(x, 3, 2, 1, ceil_mode=self.ceil_pool)


class BasicBlock(nn.Module):
  """Two 3x3 convolutions, of dilation `entry` and `dilation`, and a shortcut."""

  width: int
  stride: int
  entry: int
  dilation: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/stride,W/stride,width]."""
    shortcut = _shortcut(x, self.width, self.stride, mode)
    x = ConvNorm(self.width, 3, self.stride, self.entry, name="unit1")(x, mode)
    x = ConvNorm(self.width, 3, 1, self.dilation, activation=None, name="unit2")(x, mode)
    return jax.nn.relu(x + shortcut)


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolution to 4 `width` channels, and a shortcut."""

  width: int
  stride: int
  dilation: int
  caffe_stride: bool

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H/stride,W/stride,4 width]."""
    first, second = (self.stride, 1) if self.caffe_stride else (1, self.stride)
    shortcut = _shortcut(x, 4 * self.width, self.stride, mode)
    x = ConvNorm(self.width, 1, first, name="unit1")(x, mode)
    x = ConvNorm(self.width, 3, second, self.dilation, name="unit2")(x, mode)
    x = ConvNorm(4 * self.width, activation=None, name="unit3")(x, mode)
    return jax.nn.relu(x + shortcut)


def _shortcut(x: jax.Array, features: int, stride: int, mode: Mode) -> jax.Array:
  """`x`, projected where its shape changes; a part of the block that calls it."""
  if stride == 1 and x.shape[-1] == features:
    return x
  return ConvNorm(features, 1, stride, activation=None, name="downsample")(x, mode)


class ResNet(nn.Module):
  """Images [B,H,W,C] -> {'low': layer1 (stride 4), 'stage2', 'stage3', 'high': layer4}.

  Attributes:
    depths: blocks of the four layers.
    stem: a key of STEMS.
    bottleneck: kind of the blocks; False: basic ones.
    output_stride: of layer4.
    multi_grid: factors on the dilations of the blocks of layer4, one each (more than it has blocks
      are not read), where that layer is dilated.
    dilate_first: the first block of a dilated layer has its layer's dilation; False: that of the
      layer before, so that the layer sees what it saw with the stride (its first 3x3 only, if the
      blocks are basic).
    caffe_stride: bottlenecks have their stride on the first 1x1 convolution.
    ceil_pool: the size after the stem's pool is rounded up.
  """

  depths: tuple[int, int, int, int]
  stem: str = "plain"
  bottleneck: bool = True
  output_stride: int = 16
  multi_grid: tuple[int, ...] = key(
    (1, 2, 4), "factors on layer4's dilations, where it is dilated; (1, 1, 1) = none", at_least=1
  )
  dilate_first: bool = key(True, "False: a dilated layer's first block keeps the old dilation")
  caffe_stride: bool = key(False, "bottlenecks stride on the first 1x1 instead of the 3x3")
  ceil_pool: bool = key(False, "the stem's pool rounds sizes up: one row more on even ones")

  output_strides = (16, 8, 32)
  options_block = "resnet"

  def __post_init__(self):
    if len(self.multi_grid) < self.depths[3] or min(self.multi_grid) < 1:
      raise ConfigError(
        f"model.resnet.multi_grid={self.multi_grid}: one factor, 1 or more, for each of the "
        f"{self.depths[3]} blocks of layer4."
      )
    if self.caffe_stride and not self.bottleneck:
      raise ConfigError(
        "model.resnet.caffe_stride: the basic blocks of ResNet-18 and 34 have no 1x1 convolution "
        "to stride; leave it False or take ResNet-50 or 101."
      )
    super().__post_init__()

  @property
  def torch_names(self) -> tuple[tuple[str, str], ...]:
    """Names in the code base of the stem."""
    return (*STEM_NAMES[self.stem], *LAYER_NAMES)

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    strides = [min(stride, self.output_stride) for stride in (4, 8, 16, 32)]
    widths = [(4 if self.bottleneck else 1) * width for width in (64, 128, 256, 512)]
    return dict(zip(("low", "stage2", "stage3", "high"), zip(strides, widths)))

  @property
  def layers(self) -> tuple[tuple[str, ...], ...]:
    """Units from the input to the output: the stem and the four layers."""
    blocks = (tuple(f"layer{k}_{i}" for i in range(n)) for k, n in enumerate(self.depths, 1))
    return (("stem",), *blocks)

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    x = Stem(self.stem, self.ceil_pool, name="stem")(x, mode)
    maps = []
    for layer, blocks in enumerate(self.block_plan(), 1):
      for i, (stride, entry, dilation) in enumerate(blocks):
        width, name = 32 * 2**layer, f"layer{layer}_{i}"
        if self.bottleneck:
          block = Bottleneck(width, stride, entry, self.caffe_stride, name=name)
        else:
          block = BasicBlock(width, stride, entry, dilation, name=name)
        x = block(x, mode)
      maps.append(x)
    return dict(zip(self.feature_info, maps))

  def block_plan(self) -> list[list[tuple[int, int, int]]]:
    """Returns (stride, dilation of the first 3x3, of a second) of each block of each layer."""
    plan, stride, dilation = [], 4, 1
    for layer, depth in enumerate(self.depths, 1):
      step, before = (1 if layer == 1 else 2), dilation
      if stride * step > self.output_stride:
        step, dilation = 1, 2 * dilation
      stride *= step
      factors = self.multi_grid if layer == 4 and dilation > 1 else (1,) * depth
      entries = (dilation if self.dilate_first else before, *(dilation,) * (depth - 1))
      steps = (step, *(1,) * (depth - 1))
      plan.append([(s, f * e, f * dilation) for s, f, e in zip(steps, factors, entries)])
    return plan


_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _factory(size: int, stem: str) -> functools.partial:
  return functools.partial(ResNet, depths=_DEPTHS[size], stem=stem, bottleneck=size >= 50)


BACKBONES = {
  **{f"resnet{size}": _factory(size, "plain") for size in _DEPTHS},
  **{f"resnet{size}_v1s": _factory(size, "v1s") for size in (50, 101)},
  **{f"resnet{size}_v1c": _factory(size, "v1c") for size in (18, 50, 101)},
}
