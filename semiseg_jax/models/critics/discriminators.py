"""Discriminators of class maps: does a map look like ground truth?

Both have four 4x4 convolutions of stride 2 and LeakyReLU of slope 0.2.  They give logits: the
probability of "ground truth" is their sigmoid.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.backbones.tokens import Dense
from semiseg_jax.models.layers import Conv, Dropout, Mode, leaky_relu

WIDTHS, DROPOUT = (64, 128, 256, 512), 0.5  # as published
SLOPE = 0.2


def _halve(features: int, name: str) -> Conv:
  return Conv(features, 4, 2, padding=1, bias=True, law=initializers.torch_kernel, name=name)


class PixelDiscriminator(nn.Module):
  """AdvSemiSeg's (Hung et al. 2018, section 3.2): class maps [B,H,W,C] -> a logit per region.

  Its input are probabilities, or one-hot labels with zeros where a pixel is ignored.
  """

  widths: tuple[int, ...] = WIDTHS

  align_corners = True
  torch_names = ((r"(conv\d|classifier)", r"\1"),)

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns {'logits': [B,H/32,W/32,1] float32}, sizes rounded down at each of five halvings."""
    for i, width in enumerate(self.widths, 1):
      x = leaky_relu(_halve(width, f"conv{i}")(x, mode), SLOPE)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return {"logits": _halve(1, "classifier")(x, mode.in_float32())}


class ImageDiscriminator(nn.Module):
  """s4GAN's (Mittal et al. 2019, section 3.1): class map and picture -> a logit per image.

  Its input [B,H,W,C+3] is the class map FIRST, then the picture in [0, 1].  The dropouts 'drop1' to
  'drop3' drop whole channels; the published training keeps them on wherever it is called.
  """

  dropout: float = DROPOUT
  widths: tuple[int, ...] = WIDTHS

  align_corners = True
  torch_names = ((r"(conv\d|fc)", r"\1"),)

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> dict[str, jax.Array]:
    """Returns {'logits': [B,1,1,1], 'features': [B,1,1,512], to be matched}, float32."""
    for i, width in enumerate(self.widths, 1):
      x = leaky_relu(_halve(width, f"conv{i}")(x, mode), SLOPE)
      if i < len(self.widths):
        x = Dropout(self.dropout, whole_maps=True, name=f"drop{i}")(x, mode)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    features = x.mean((1, 2), keepdims=True)
    score = Dense(1, initializers.torch_kernel, initializers.torch_bias, name="fc")
    return {"logits": score(features, mode.in_float32()), "features": features}
