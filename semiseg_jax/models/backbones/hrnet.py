"""HRNet: four branches at strides 4, 8, 16 and 32 that exchange their maps after every module.

Sun et al., High-Resolution Representations for Labeling Pixels and Regions (2019), as the official
code, openseg.pytorch (ContrastiveSeg) and PaddleSeg have it.  They differ in three things that
change the numbers by far more than rounding; weights must run with those they were trained with:

| code base | hrnet.padding | hrnet.align_corners | model.compat |
|---|---|---|---|
| ContrastiveSeg, openseg; official with OCR | symmetric | True | |
| official without OCR | symmetric | False | |
| PaddleSeg, and the weights it trained | same | False | biased_variance |

(`configs.presets.hrnet_of_paddle` sets the last row.)  The initial weights are Kaiming normal as of
all backbones here; the code bases replace theirs by ImageNet weights.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.backbones import resnet
from semiseg_jax.models.layers import ConvNorm, Mode
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.options import key

# Our modules -> those of the official code; the rules of layer1 are ResNet's.
TORCH_NAMES = (
  (r"stem(\d)/(conv|bn)", r"\2\1"),
  *resnet.LAYER_NAMES,
  (r"transition1_0/conv", r"transition1.0.0"),
  (r"transition1_0/bn", r"transition1.0.1"),
  (r"transition(\d)_(\d)/conv", r"transition\1.\2.0.0"),
  (r"transition(\d)_(\d)/bn", r"transition\1.\2.0.1"),
  (r"stage(\d)_(\d)/branch(\d)_(\d)/unit(\d)/(conv|bn)", r"stage\1.\2.branches.\3.\4.\6\5"),
  (r"stage(\d)_(\d)/fuse(\d)_(\d)/conv", r"stage\1.\2.fuse_layers.\3.\4.0"),
  (r"stage(\d)_(\d)/fuse(\d)_(\d)/bn", r"stage\1.\2.fuse_layers.\3.\4.1"),
  (r"stage(\d)_(\d)/fuse(\d)_(\d)_(\d)/conv", r"stage\1.\2.fuse_layers.\3.\4.\5.0"),
  (r"stage(\d)_(\d)/fuse(\d)_(\d)_(\d)/bn", r"stage\1.\2.fuse_layers.\3.\4.\5.1"),
)
PADDINGS = {"symmetric": None, "same": "same"}


class Module(nn.Module):
  """Basic blocks on every branch, then every branch becomes the sum of all, each resized to it."""

  widths: tuple[int, ...]
  blocks: int
  padding: str
  align_corners: bool

  @nn.compact
  def __call__(self, maps: list[jax.Array], mode: Mode) -> list[jax.Array]:
    """Returns maps of the shapes given."""
    maps = [self._branch(b, x, mode) for b, x in enumerate(maps)]
    fused = []
    for i, like in enumerate(maps):
      terms = [self._term(i, j, x, like, mode) for j, x in enumerate(maps)]
      fused.append(jax.nn.relu(sum(terms[1:], terms[0])))
    return fused

  def _branch(self, b: int, x: jax.Array, mode: Mode) -> jax.Array:
    for k in range(self.blocks):
      block = resnet.BasicBlock(self.widths[b], 1, 1, 1, name=f"branch{b}_{k}")
      x = block(x, mode)
    return x

  def _term(self, i: int, j: int, x: jax.Array, like: jax.Array, mode: Mode) -> jax.Array:
    """Branch j as the fusion adds it to branch i."""
    if j > i:
      x = ConvNorm(self.widths[i], activation=None, name=f"fuse{i}_{j}")(x, mode)
      return resize_bilinear(x, like.shape[1:3], self.align_corners)
    for step in range(i - j):
      last = step == i - j - 1
      conv = ConvNorm(
        self.widths[i if last else j],
        3,
        2,
        activation=None if last else jax.nn.relu,
        padding=PADDINGS[self.padding],
        name=f"fuse{i}_{j}_{step}",
      )
      x = conv(x, mode)
    return x


class HRNet(nn.Module):
  """Images [B,H,W,C] -> {'branch0' .. 'branch3', 'low': branch0, 'high': all four at stride 4}.

  Odd sizes are rounded up at every stride; pictures need 32 pixels a side.

  Attributes:
    width: channels of branch 0; branch b has width * 2**b.
    layer1: channels inside, and number, of the bottlenecks of stage 1.
    modules: number of modules in the stages 2, 3 and 4.
    blocks: basic blocks per branch of a module.
    padding: of convolutions with stride 2: 'symmetric' (PyTorch), 'same' (PaddlePaddle).
    align_corners: how branches are enlarged to one another.
  """

  width: int
  layer1: tuple[int, int] = (64, 4)
  modules: tuple[int, int, int] = (1, 4, 3)
  blocks: int = 4
  padding: str = key(
    "symmetric", "'same': PaddlePaddle's, weights trained so need it", one_of=PADDINGS
  )
  align_corners: bool = key(True, "how branches are enlarged; must be that of the weights")

  output_strides = (4,)
  options_block = "hrnet"
  torch_names = TORCH_NAMES

  def __post_init__(self):
    if self.padding not in PADDINGS:
      raise ConfigError(
        f"model.hrnet.padding is {self.padding!r}; possible: {', '.join(PADDINGS)}."
      )
    super().__post_init__()

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    branches = {f"branch{b}": (4 * 2**b, self.width * 2**b) for b in range(4)}
    return {**branches, "low": branches["branch0"], "high": (4, 15 * self.width)}

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the features by name."""
    for i in (1, 2):
      x = self._conv(64, 2, f"stem{i}")(x, mode)
    width, depth = self.layer1
    for i in range(depth):
      x = resnet.Bottleneck(width, 1, 1, False, name=f"layer1_{i}")(x, mode)
    maps = [x]
    for stage, modules in enumerate(self.modules, 2):
      maps = self._transition(stage - 1, maps, mode)
      widths = tuple(self.width * 2**b for b in range(stage))
      for m in range(modules):
        module = Module(
          widths, self.blocks, self.padding, self.align_corners, name=f"stage{stage}_{m}"
        )
        maps = module(maps, mode)
    size = maps[0].shape[1:3]
    high = jnp.concatenate([resize_bilinear(y, size, self.align_corners) for y in maps], -1)
    return {**{f"branch{b}": y for b, y in enumerate(maps)}, "low": maps[0], "high": high}

  def _transition(self, number: int, maps: list[jax.Array], mode: Mode) -> list[jax.Array]:
    """Adds a branch to `maps`; the first time branch 0 gets its width as well."""
    added = self._conv(self.width * 2**number, 2, f"transition{number}_{number}")(maps[-1], mode)
    if number == 1:
      maps = [self._conv(self.width, 1, "transition1_0")(maps[0], mode)]
    return [*maps, added]

  def _conv(self, features: int, stride: int, name: str) -> ConvNorm:
    return ConvNorm(features, 3, stride, padding=PADDINGS[self.padding], name=name)


BACKBONES = {
  **{f"hrnet_w{width}": functools.partial(HRNet, width=width) for width in (18, 32, 48)},
  "hrnet_w18_small_v1": functools.partial(
    HRNet, width=16, layer1=(32, 1), modules=(1, 1, 1), blocks=2
  ),
  "hrnet_w18_small_v2": functools.partial(
    HRNet, width=18, layer1=(64, 2), modules=(1, 3, 2), blocks=2
  ),
}
