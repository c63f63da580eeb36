"""The two parts that PseudoSeg adds to a network: a classifier of pictures, attention over maps."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.layers import BatchNorm, Conv, Mode
from semiseg_jax.ops import class_maps


def _glorot(features: int) -> Callable[[int], initializers.Initializer]:
  """Glorot and Bengio's uniform law, TF-Slim's default for a convolution."""
  return lambda fan_in: initializers.Initializer("uniform", math.sqrt(6 / (fan_in + features)))


class ImageClassifier(nn.Module):
  """A [B,h,w,K'] -> {'logits': [B,1,1,K] of the mean over places, 'cam': Grad-CAM [B,h,w,K]}.

  Both are float32.

  Attributes:
    classes: K.
  """

  classes: int

  align_corners = True
  torch_names = ()

  @nn.compact
  def __call__(self, A: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name."""
    law = initializers.torch_bias(A.shape[-1])
    bias = self.param("bias", initializers.declare(law, (self.classes,)))
    A = A.astype(jnp.promote_types(A.dtype, jnp.float32))
    Z = Conv(self.classes, name="linear")(A, mode.in_float32())
    logits = Z.mean((1, 2), keepdims=True) + bias[None, None, None]
    return {"logits": logits, "cam": class_maps.linear_grad_cam(Z)}


class ClassAttention(nn.Module):
  """Seeds FIRST, then a mask of valid places, then features -> {'logits': [B,h,w,C] float32}.

  Keys and queries are 1x1 convolutions of the features; the attended seeds, and what they leave to
  the background, are mixed by a 1x1 convolution and normalized without a scale (TF-Slim's default).

  Attributes:
    num_classes: C.
    seeds: K channels of seeds; C - 1 where class 0 is the background, or C.
    width: channels of keys and queries.
  """

  num_classes: int
  seeds: int
  width: int

  align_corners = True
  torch_names = ()

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name."""
    mode = mode.in_float32()
    S, v, F = jnp.split(x, (self.seeds, self.seeds + 1), -1)
    query, key = (
      Conv(self.width, law=_glorot(self.width), name=name)(F, mode) for name in ("query", "key")
    )
    R = class_maps.attended(query, key, S, v[..., 0] > 0)
    if self.seeds < self.num_classes:
      R = class_maps.with_background(R)
    mixed = Conv(self.num_classes, law=_glorot(self.num_classes), name="mix")(R, mode)
    return {"logits": BatchNorm(epsilon=1e-3, scaled=False, name="bn")(mixed, mode)}
