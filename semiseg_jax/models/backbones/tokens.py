"""Layers on sequences of tokens [B,T,D]: what a vision transformer is made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from semiseg_jax.models import initializers, platforms
from semiseg_jax.models.backbones import rope
from semiseg_jax.models.initializers import Initializer
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.remat import product


class Dense(nn.Module):
  """torch.nn.Linear on the last axis; kernel [D,features] and bias start as the laws of D say.

  Numbers `masked` (from, to) of the bias count as 0 and stay as they are.
  """

  features: int
  law: Callable[[int], Initializer] = lambda fan_in: Initializer("normal", 0.02)
  bias_law: Callable[[int], Initializer] = lambda fan_in: initializers.constant(0)
  bias: bool = True
  masked: tuple[int, int] = (0, 0)

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [...,features] in the compute dtype."""
    fan_in = x.shape[-1]
    kernel = self.param("kernel", initializers.declare(self.law(fan_in), (fan_in, self.features)))
    x = mode.cast(x)
    y = product(lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ()))))
    if not self.bias:
      return y
    bias = self.param("bias", initializers.declare(self.bias_law(fan_in), (self.features,)))
    if self.masked[0] < self.masked[1]:
      bias = bias.at[slice(*self.masked)].set(0)
    return y + bias.astype(y.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class LayerNorm(nn.Module):
  """Layer normalization over the last axis, in float32 at least."""

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns `x` normalized, in the compute dtype."""
    declare = lambda value: initializers.declare(initializers.constant(value), x.shape[-1:])
    scale, bias = self.param("scale", declare(1)), self.param("bias", declare(0))
    high = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centered = high - high.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    last = (1,) * (x.ndim - 1) + (-1,)
    y = centered * lax.rsqrt(variance + self.epsilon) * scale.reshape(last) + bias.reshape(last)
    return mode.cast(y, like=x)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, flash: bool) -> jax.Array:
  """softmax(q k' / sqrt(d)) v of [B,T,heads,d] each, the softmax in float32 at least.

  With `flash`, in bfloat16 on a GPU, by cuDNN, which never holds the T x T weights in memory.
  """
  if flash and q.dtype == jnp.bfloat16 and platforms.is_gpu():
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
  high = jnp.promote_types(q.dtype, jnp.float32)
  scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=high)
  weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5).astype(v.dtype)
  return jnp.einsum("bhts,bshd->bthd", weights, v)


class Attention(nn.Module):
  """Multi-head self-attention; query, key and value come from one matrix, in this order.

  biased: letters of those that have a bias: 'qkv', 'qv' or ''.
  """

  heads: int
  flash: bool
  biased: str = "qkv"

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode, rotations: rope.Tables | None = None) -> jax.Array:
    """Returns [B,T,D]; queries and keys are rotated before they meet."""
    batch, tokens, width = x.shape
    masked = (width, 2 * width) if self.biased == "qv" else (0, 0)
    qkv = Dense(3 * width, bias=bool(self.biased), masked=masked, name="qkv")
    mixed = qkv(x, mode)
    q, k, v = jnp.split(mixed.reshape(batch, tokens, 3 * self.heads, -1), 3, axis=2)
    if rotations is not None:
      q, k = rope.rotate(q, rotations), rope.rotate(k, rotations)
    y = attend(q, k, v, self.flash).reshape(batch, tokens, width)
    return Dense(width, name="proj")(y, mode)


class Mlp(nn.Module):
  """Two matrices around an exact (erf) GELU; the hidden width is 4 D."""

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,T,D]."""
    y = jax.nn.gelu(Dense(4 * x.shape[-1], name="fc1")(x, mode), approximate=False)
    return Dense(x.shape[-1], name="fc2")(y, mode)


class SwiGlu(nn.Module):
  """silu(w1 x) * (w2 x), then a third matrix; `hidden` channels between (Shazeer 2020)."""

  hidden: int

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,T,D]."""
    y = jax.nn.silu(Dense(self.hidden, name="w1")(x, mode)) * Dense(self.hidden, name="w2")(x, mode)
    return Dense(x.shape[-1], name="w3")(y, mode)


class LayerScale(nn.Module):
  """One factor per channel on the branch of a residual block."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `x` multiplied."""
    law = initializers.constant(1e-5)
    gamma = self.param("gamma", initializers.declare(law, x.shape[-1:]))
    return x * gamma.astype(x.dtype).reshape(1, 1, -1)


class Block(nn.Module):
  """x + ls1(attention(norm1(x))), then x + ls2(mlp(norm2(x))).

  epsilon: of the normalizations.  biased: see `Attention`.  gated: hidden channels of a SwiGLU in
  place of the MLP; 0: the MLP.
  """

  heads: int
  flash: bool
  epsilon: float = 1e-6
  biased: str = "qkv"
  gated: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode, rotations: rope.Tables | None = None) -> jax.Array:
    """Returns [B,T,D]."""
    attention = Attention(self.heads, self.flash, self.biased, name="attn")
    mlp = SwiGlu(self.gated, name="mlp") if self.gated else Mlp(name="mlp")
    y = LayerNorm(self.epsilon, name="norm1")(x, mode)
    x = x + LayerScale(name="ls1")(attention(y, mode, rotations))
    y = LayerNorm(self.epsilon, name="norm2")(x, mode)
    return x + LayerScale(name="ls2")(mlp(y, mode))
