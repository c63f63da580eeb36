"""The flaw detector of GCT (Ke et al. 2020, section 3.2): where is a prediction wrong?"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.layers import BatchNorm, Conv, Mode, instance_norm, leaky_relu

# Name, channels and stride of the 4x4 convolutions; those of stride 1 shrink the map by a pixel.
LAYERS = (
  ("1", 64, 2),
  ("2", 128, 2),
  ("2_1", 128, 1),
  ("3", 256, 2),
  ("3_1", 256, 1),
  ("4", 512, 2),
  ("4_1", 512, 1),
)


def _conv(features: int, stride: int, name: str) -> Conv:
  return Conv(features, 4, stride, padding=1, bias=True, law=initializers.torch_kernel, name=name)


class BatchInstanceNorm(nn.Module):
  """Batch normalization of the first half of the channels, instance normalization of the rest."""

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H,W,C]; the second half has no parameters and is the same in every mode."""
    first, rest = jnp.split(x, 2, -1)
    return jnp.concatenate([BatchNorm(name="bnorm")(first, mode), instance_norm(rest)], -1)


class FlawDetector(nn.Module):
  """Picture FIRST, then class probabilities, [B,H,W,3+C] -> a map of flaws.

  There is no activation at the end: the map is fitted to a target in [0, 1] but is not bounded.
  """

  align_corners = True
  torch_names = ((r"(ibn\w+)/bnorm", r"\1.bnorm"), (r"(conv\w+|classifier)", r"\1"))

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns {'flaw': [B,h,w,1] float32}, e.g. 9x9 of 321x321."""
    for layer, width, stride in LAYERS:
      x = _conv(width, stride, f"conv{layer}")(x, mode)
      x = leaky_relu(BatchInstanceNorm(name=f"ibn{layer}")(x, mode), 0.2)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {"flaw": _conv(1, 2, "classifier")(x, mode.in_float32())}
