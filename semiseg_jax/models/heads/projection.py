"""Projection heads: maps -> embeddings of unit length, one per pixel, for contrastive losses."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Conv, ConvNorm, Mode, average_pool
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


def _embed(width: int, x: jax.Array, mode: Mode, name: str) -> jax.Array:
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  conv = Conv(width, bias=True, law=initializers.torch_kernel, name=name)
  return unit_length(conv(x, mode.in_float32()))


PROJECTIONS = {"convmlp": ConvMLP, "linear": Linear, "cac": PooledMLP, "cac_psp": MLP}


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `model.projection`."""

  kind: str = key(
    "none",
    "embeddings of unit length: 'convmlp', 'linear' of the last feature, 'cac' of 2x2 averages of "
    "what the classifier sees, 'cac_psp' of that itself",
    one_of=("none", *PROJECTIONS),
  )
  width: int = key(
    256,
    "channels of the embedding; CAC's: 128",
    at_least=1,
    when={"kind": tuple(PROJECTIONS)},
  )
