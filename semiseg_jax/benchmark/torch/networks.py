"""DeepLabv3+ in PyTorch on three backbones; modules have our names, so parameters can be moved."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from semiseg_jax.benchmark.torch.recipe import Recipe


class ConvNorm(nn.Module):
  """Convolution, batch normalization, activation (None: none)."""

  def __init__(
    self,
    before: int,
    width: int,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
  ):
    super().__init__()
    self.conv = _conv(before, width, kernel, stride, dilation, groups)
    self.bn = nn.BatchNorm2d(width)
    self.act = nn.Identity() if act is None else act(inplace=True)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the map."""
    return self.act(self.bn(self.conv(x)))


def _conv(
  before: int, width: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
  pad = dilation * (kernel // 2)
  return nn.Conv2d(before, width, kernel, stride, pad, dilation, groups, bias=False)


class _Residual(nn.Module):
  """Convolutions `unit1`, `unit2`, ... and a shortcut, projected where the shape changes."""

  def __init__(self, units: list[ConvNorm], before: int, width: int, stride: int):
    super().__init__()
    self.depth = len(units)
    for i, unit in enumerate(units, 1):
      self.add_module(f"unit{i}", unit)
    if stride > 1 or before != width:
      self.downsample = ConvNorm(before, width, 1, stride, act=None)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the map."""
    y = x
    for i in range(1, self.depth + 1):
      y = getattr(self, f"unit{i}")(y)
    return functional.relu(
      y + (self.downsample(x) if hasattr(self, "downsample") else x), inplace=True
    )


def _basic(before: int, width: int, stride: int, entry: int, dilation: int) -> _Residual:
  first = ConvNorm(before, width, 3, stride, entry)
  second = ConvNorm(width, width, 3, 1, dilation, act=None)
  return _Residual([first, second], before, width, stride)


def _bottleneck(
  before: int, width: int, stride: int, dilation: int, caffe_stride: bool
) -> _Residual:
  first, second = (stride, 1) if caffe_stride else (1, stride)
  units = [
    ConvNorm(before, width, 1, first),
    ConvNorm(width, width, 3, second, dilation),
    ConvNorm(width, 4 * width, act=None),
  ]
  return _Residual(units, before, 4 * width, stride)


class ResNet(nn.Module):
  """Options: 'stem' (width, kernel) each, 'plan' as ours, 'bottleneck', 'caffe_stride', 'ceil'."""

  def __init__(
    self,
    stem: Sequence[tuple[int, int]],
    plan: Sequence[Sequence[tuple[int, int, int]]],
    bottleneck: bool,
    caffe_stride: bool,
    ceil: bool,
  ):
    super().__init__()
    self.stem, width = nn.Module(), 3
    for i, (features, kernel) in enumerate(stem, 1):
      self.stem.add_module(f"unit{i}", ConvNorm(width, features, kernel, 2 if i == 1 else 1))
      width = features
    self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=ceil)
    self.blocks = []
    for layer, blocks in enumerate(plan, 1):
      for i, (stride, entry, dilation) in enumerate(blocks):
        inner, name = 32 * 2**layer, f"layer{layer}_{i}"
        if bottleneck:
          block = _bottleneck(width, inner, stride, entry, caffe_stride)
        else:
          block = _basic(width, inner, stride, entry, dilation)
        self.add_module(name, block)
        self.blocks.append(name)
        width = inner * (4 if bottleneck else 1)
    self.low, self.widths = f"layer1_{len(plan[0]) - 1}", (256 if bottleneck else 64, width)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (low, high) of pictures."""
    for unit in self.stem.children():
      x = unit(x)
    x = low = self.pool(x)
    for name in self.blocks:
      x = getattr(self, name)(x)
      low = x if name == self.low else low
    return low, x


class _Inverted(nn.Module):
  def __init__(self, before: int, width: int, stride: int, dilation: int, expansion: int):
    super().__init__()
    inner = expansion * before
    if expansion > 1:
      self.expand = ConvNorm(before, inner, act=nn.ReLU6)
    self.depthwise = ConvNorm(inner, inner, 3, stride, dilation, inner, act=nn.ReLU6)
    self.project = ConvNorm(inner, width, act=None)
    self.adds = stride == 1 and before == width

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the map."""
    y = self.expand(x) if hasattr(self, "expand") else x
    y = self.project(self.depthwise(y))
    return x + y if self.adds else y


class MobileNetV2(nn.Module):
  """Options: 'rows' (width, repeats, stride) each, 'output_stride'."""

  def __init__(self, rows: Sequence[tuple[int, int, int]], output_stride: int):
    super().__init__()
    self.stem = ConvNorm(3, 32, 3, 2, act=nn.ReLU6)
    before, reached, dilation, self.count, self.low = 32, 2, 1, 0, 0
    for width, repeats, row_stride in rows:
      for i in range(repeats):
        step = row_stride if i == 0 else 1
        removed = step if reached * step > output_stride else 1
        self.count += 1
        block = _Inverted(before, width, step // removed, dilation, 6 if self.count > 1 else 1)
        self.add_module(f"block{self.count}", block)
        before, reached, dilation = width, reached * step // removed, dilation * removed
      if width == 24:
        self.low = self.count
    self.widths = (24, before)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (low, high) of pictures."""
    x = low = self.stem(x)
    for i in range(1, self.count + 1):
      x = getattr(self, f"block{i}")(x)
      low = x if i == self.low else low
    return low, x


class Tiny(nn.Module):
  """Options: 'widths' and 'strides' of the stages, 'dilation' of the last."""

  def __init__(self, widths: Sequence[int], strides: Sequence[int], dilation: int):
    super().__init__()
    self.stem, before = ConvNorm(3, 8, 3, 2), 8
    for i, (width, stride) in enumerate(zip(widths, strides)):
      rate = dilation if i == 3 else 1
      self.add_module(f"stage{i + 1}", _basic(before, width, stride, rate, rate))
      before = width
    self.widths = (widths[1], widths[3])

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (low, high) of pictures."""
    low = self.stage2(self.stage1(self.stem(x)))
    return low, self.stage4(self.stage3(low))


class JointASPP(nn.Module):
  """TorchSemiSeg's: one normalization of all dilated branches, the pooled one is added."""

  def __init__(self, before: int, width: int, rates: Sequence[int]):
    super().__init__()
    self.branch0 = _conv(before, width)
    for i, rate in enumerate(rates, 1):
      self.add_module(f"branch{i}", _conv(before, width, 3, 1, rate))
    self.count = 1 + len(rates)
    self.map_bn, self.red_conv = (
      nn.BatchNorm2d(width * self.count),
      _conv(width * self.count, width),
    )
    self.pool_conv, self.pool_bn = _conv(before, width), nn.BatchNorm2d(width)
    self.pool_red_conv, self.red_bn = _conv(width, width), nn.BatchNorm2d(width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the map."""
    y = torch.cat([getattr(self, f"branch{i}")(x) for i in range(self.count)], 1)
    y = self.red_conv(functional.leaky_relu(self.map_bn(y), inplace=True))
    pooled = self.pool_conv(x.mean((2, 3), keepdim=True))
    pooled = self.pool_red_conv(functional.leaky_relu(self.pool_bn(pooled), inplace=True))
    return functional.leaky_relu(self.red_bn(y + pooled), inplace=True)


class Head(nn.Module):
  """DeepLabv3+; options: 'aspp_width', 'aspp_rates', 'low_width', 'decoder_width', 'convs'."""

  def __init__(
    self,
    widths: tuple[int, int],
    classes: int,
    aspp_width: int,
    aspp_rates: Sequence[int],
    low_width: int,
    decoder_width: int,
    convs: int,
  ):
    super().__init__()
    low, high = widths
    self.reduce, self.convs = ConvNorm(low, low_width), convs
    self.aspp, before = JointASPP(high, aspp_width, aspp_rates), aspp_width + low_width
    for i in range(convs):
      self.add_module(f"fuse{i}", ConvNorm(before, decoder_width, 3))
      before = decoder_width
    self.classifier = nn.Conv2d(before, classes, 1)

  def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Returns the logits at the stride of `low`."""
    low = self.reduce(low)
    x = torch.cat([_resized(self.aspp(high), low.shape[2:]), low], 1)
    for i in range(self.convs):
      x = getattr(self, f"fuse{i}")(x)
    return self.classifier(x)


def _resized(x: torch.Tensor, size: Any) -> torch.Tensor:
  return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


BACKBONES = {"ResNet": ResNet, "MobileNetV2": MobileNetV2, "Tiny": Tiny}


class Network(nn.Module):
  """Normalized pictures [B,3,H,W] -> float32 logits [B,classes,H,W]."""

  def __init__(self, recipe: Recipe):
    super().__init__()
    self.encoder = BACKBONES[recipe.backbone](**recipe.encoder)
    self.decoder = Head(self.encoder.widths, recipe.classes, **recipe.head)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the map."""
    return _resized(self.decoder(*self.encoder(x)).float(), x.shape[2:])
