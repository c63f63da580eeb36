"""Projection heads: maps -> embeddings, one per pixel, for contrastive losses.

They are of unit length, but for those of ReCo and U2PL, whose losses compare directions.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Conv, ConvNorm, Dropout, Mode, average_pool
from semiseg_jax.options import key


def unit_length(x: jax.Array) -> jax.Array:
  """Divides `x` [...,C] by max(its norm over C, 1e-12); finite gradients everywhere."""
  square = jnp.sum(jnp.square(x), -1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


class ConvMLP(nn.Module):
  """ContrastiveSeg's projection of 'high' [B,h,w,K] -> [B,h,w,width] float32.

  1x1 convolution to K channels, BatchNorm, ReLU, 1x1 convolution; PyTorch's initial weights.
  """

  width: int

  torch_names = (
    (r"hidden/conv", r"proj_head.proj.0"),
    (r"hidden/bn", r"proj_head.proj.1.0"),
    (r"out", r"proj_head.proj.2"),
  )

  @nn.compact
  def __call__(self, maps: dict[str, jax.Array], mode: Mode) -> jax.Array:
    """Returns embeddings of unit length."""
    x, law = maps["high"], initializers.torch_kernel
    x = ConvNorm(x.shape[-1], bias=True, law=law, name="hidden")(x, mode)
    return _embed(self.width, x, mode, "out")


class Linear(nn.Module):
  """One 1x1 convolution of 'high' [B,h,w,K] -> [B,h,w,width] float32, of unit length."""

  width: int

  torch_names = ((r"out", r"proj_head.proj"),)

  @nn.compact
  def __call__(self, maps: dict[str, jax.Array], mode: Mode) -> jax.Array:
    """Returns embeddings of unit length."""
    return _embed(self.width, maps["high"], mode, "out")


class PooledMLP(nn.Module):
  """CAC's projector of the head's 'features' [B,h,w,K] -> [B,h//2,w//2,width] float32.

  Features averaged over 2x2 pixels, 1x1 convolution to K channels, ReLU, 1x1 convolution (CAC's
  width: 128); PyTorch's initial weights.
  """

  width: int

  torch_names = ((r"hidden", r"project.0"), (r"out", r"project.2"))
  window = 2  # pixels that are averaged, along a side

  @nn.compact
  def __call__(self, maps: dict[str, jax.Array], mode: Mode) -> jax.Array:
    """Returns embeddings of unit length."""
    x, law = average_pool(maps["features"], self.window), initializers.torch_kernel
    x = jax.nn.relu(Conv(x.shape[-1], bias=True, law=law, name="hidden")(x, mode))
    return _embed(self.width, x, mode, "out")


class MLP(PooledMLP):
  """CAC's projector with its `psp` encoder, `downsample` off: nothing is averaged."""

  window = 1


class Representation(nn.Module):
  """A branch beside the decoder of DeepLabv3+, of the decoder's form, not of unit length.

  Of 'fused' [B,h,w,K], or 'high' where the head gives none: 3x3 convolutions to as many channels as
  the embedding, each with BatchNorm, ReLU and dropout of whole maps, and a 1x1 convolution.
  PyTorch's initial weights.

  Attributes:
    width: channels of the embedding.
    convs: number of the 3x3 convolutions.
    biased: whether they have biases.
    rate: of the dropouts.
    prefix: what stands before the PyTorch names.
  """

  width: int
  convs: int
  biased: bool
  rate: float
  prefix: str

  @property
  def torch_names(self) -> tuple[tuple[str, str], ...]:
    """Names in the code base."""
    apart = 4 if self.rate else 3  # modules of a convolution, its dropout included
    names = [
      (rf"fuse{i}/{ours}", f"{self.prefix}representation.{apart * i + theirs}")
      for i in range(self.convs)
      for theirs, ours in enumerate(("conv", "bn"))
    ]
    return (*names, (r"out", f"{self.prefix}representation.{apart * self.convs}"))

  @nn.compact
  def __call__(self, maps: dict[str, jax.Array], mode: Mode) -> jax.Array:
    """Returns embeddings [B,h,w,width] float32."""
    x, law = maps.get("fused", maps["high"]), initializers.torch_kernel
    for i in range(self.convs):
      x = ConvNorm(self.width, 3, bias=self.biased, law=law, name=f"fuse{i}")(x, mode)
      x = Dropout(self.rate, whole_maps=True, name=f"fuse{i}_dropout")(x, mode)
    return _last(self.width, x, mode, "out")


def _embed(width: int, x: jax.Array, mode: Mode, name: str) -> jax.Array:
  return unit_length(_last(width, x, mode, name))


def _last(width: int, x: jax.Array, mode: Mode, name: str) -> jax.Array:
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  conv = Conv(width, bias=True, law=initializers.torch_kernel, name=name)
  return conv(x, mode.in_float32())


PROJECTIONS = {
  "convmlp": ConvMLP,
  "linear": Linear,
  "cac": PooledMLP,
  "cac_psp": MLP,
  "reco": functools.partial(Representation, convs=1, biased=False, rate=0.0, prefix=""),
  "u2pl": functools.partial(Representation, convs=2, biased=True, rate=0.1, prefix="decoder."),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `model.projection`."""

  kind: str = key(
    "none",
    "embeddings of unit length: 'convmlp', 'linear' of the last feature, 'cac' of 2x2 averages of "
    "what the classifier sees, 'cac_psp' of that itself; of any length: 'reco', 'u2pl' of "
    "DeepLabv3+'s concatenation",
    one_of=("none", *PROJECTIONS),
  )
  width: int = key(
    256,
    "channels of the embedding; CAC's: 128",
    at_least=1,
    when={"kind": tuple(PROJECTIONS)},
  )
