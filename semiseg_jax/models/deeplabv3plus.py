"""The DeepLabv3+ head of the CPS code base (an in-place-ABN style ASPP with one joint BatchNorm).

It differs from the DeepLabv3+ paper: the four dilated branches share one BatchNorm over their
concatenation, the pooled branch is added instead of concatenated, activations inside the ASPP are
LeakyReLU(0.01), and there is no dropout.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models.layers import BatchNorm, Conv, ConvNorm, Mode, leaky_relu
from semiseg_jax.ops.resize import resize_bilinear

# Our modules -> those of the code base.
TORCH_NAMES = (
  (r"aspp/branch(\d)", r"head.aspp.map_convs.\1"),
  (r"aspp/map_bn", r"head.aspp.map_bn"),
  (r"aspp/pool_conv", r"head.aspp.global_pooling_conv"),
  (r"aspp/pool_bn", r"head.aspp.global_pooling_bn"),
  (r"aspp/(red_conv|pool_red_conv|red_bn)", r"head.aspp.\1"),
  (r"reduce/conv", r"head.reduce.0"),
  (r"reduce/bn", r"head.reduce.1"),
  (r"fuse0/conv", r"head.last_conv.0"),
  (r"fuse0/bn", r"head.last_conv.1"),
  (r"fuse1/conv", r"head.last_conv.3"),
  (r"fuse1/bn", r"head.last_conv.4"),
  (r"classifier", r"classifier"),
)


class ASPP(nn.Module):
  """Atrous spatial pyramid pooling: [B,h,w,C] -> [B,h,w,width]."""

  width: int
  rates: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,h,w,width]."""
    branches = [Conv(self.width, name="branch0")(x, mode)]
    for i, rate in enumerate(self.rates):
      branches.append(
        Conv(self.width, 3, dilation=rate, padding=rate, name=f"branch{i + 1}")(x, mode)
      )
    y = leaky_relu(BatchNorm(name="map_bn")(jnp.concatenate(branches, -1), mode))
    y = Conv(self.width, name="red_conv")(y, mode)
    pooled = jnp.mean(x, axis=(1, 2), keepdims=True)
    pooled = Conv(self.width, name="pool_conv")(pooled, mode)
    pooled = leaky_relu(BatchNorm(name="pool_bn")(pooled, mode))
    pooled = Conv(self.width, name="pool_red_conv")(pooled, mode)
    return leaky_relu(BatchNorm(name="red_bn")(y + pooled, mode))


class DeepLabV3Plus(nn.Module):
  """Features 'low' [B,h,w,c] and 'high' -> {'logits': [B,h,w,num_classes] float32}.

  Attributes:
    num_classes: channels of the logits.
    aspp_width: channels of every ASPP branch and of its output.
    aspp_rates: dilations of the 3x3 branches.
    low_width: channels to which 'low' is reduced.
    decoder_width: channels of the 3x3 convolutions after the concatenation.
    decoder_convs: number of these.
  """

  num_classes: int
  aspp_width: int = 256
  aspp_rates: tuple[int, ...] = (6, 12, 18)
  low_width: int = 48
  decoder_width: int = 256
  decoder_convs: int = 2

  needs = ("low", "high")
  align_corners = True
  torch_backbone = "backbone."
  torch_names = TORCH_NAMES

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name, at the stride of 'low'; 'features' are the classifier's."""
    low = ConvNorm(self.low_width, name="reduce")(features["low"], mode)
    x = ASPP(self.aspp_width, self.aspp_rates, name="aspp")(features["high"], mode)
    x = resize_bilinear(x, low.shape[1:3], self.align_corners)
    x = jnp.concatenate([x, low], -1)
    for i in range(self.decoder_convs):
      x = ConvNorm(self.decoder_width, 3, name=f"fuse{i}")(x, mode)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    logits = Conv(self.num_classes, bias=True, name="classifier")(x, mode.in_float32())
    return {"logits": logits, "features": x}
