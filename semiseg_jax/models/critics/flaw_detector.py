"""The flaw detector of GCT (Ke et al. 2020, section 3.2): where is a prediction wrong?"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.layers import BatchNorm, Conv, Mode, instance_norm, leaky_relu

WIDTHS = (64, 128, 256, 512)


def layers(widths: tuple[int, ...]) -> list[tuple[str, int, int]]:
  """Returns name, channels and stride of the 4x4 convolutions before the classifier.

  For every width one halves the map; for every one but the first a second shrinks it by a pixel.
  """
  found = []
  for i, width in enumerate(widths, 1):
    found += [(f"{i}", width, 2)] + [(f"{i}_1", width, 1)] * (i > 1)
  return found


def map_side(side: int, widths: int) -> int:
  """Returns the side of the flaw map of pictures of a side, before it is enlarged; < 1: none."""
  for _, _, stride in (*layers((1,) * widths), ("classifier", 1, 2)):
    side = (side - 2) // stride + 1 if side > 1 else 0
  return side


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
  It is called 'logits' because that output of a network is enlarged to the size of a picture.

  Attributes:
    widths: even numbers of channels.
  """

  widths: tuple[int, ...] = WIDTHS

  align_corners = True
  torch_names = ((r"(ibn\w+)/bnorm", r"\1.bnorm"), (r"(conv\w+|classifier)", r"\1"))

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns {'logits': [B,h,w,1] float32}, e.g. 9x9 of 321x321."""
    for layer, width, stride in layers(self.widths):
      x = _conv(width, stride, f"conv{layer}")(x, mode)
      x = leaky_relu(BatchInstanceNorm(name=f"ibn{layer}")(x, mode), 0.2)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {"logits": _conv(1, 2, "classifier")(x, mode.in_float32())}
