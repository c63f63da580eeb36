"""The head of DeepLabv2 (Chen et al. 2017, "ASPP-L") as AdvSemiSeg and s4GAN use it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.initializers import Initializer
from semiseg_jax.models.layers import Conv, Mode
from semiseg_jax.options import key


def _law(fan_in: int) -> Initializer:
  return Initializer("normal", 0.01)


class DeepLabV2(nn.Module):
  """Feature 'high' [B,h,w,c] -> {'logits': [B,h,w,num_classes] float32}: dilated 3x3, summed.

  Attributes:
    num_classes: channels of the logits.
    rates: dilation of each branch.
    summed: how many branches, from the first, make the logits; 0: all.  The published code returns
      after two of its four, whose others then have parameters that nothing moves.
  """

  num_classes: int
  rates: tuple[int, ...] = key((6, 12, 18, 24), "dilations, one 3x3 convolution each", at_least=1)
  summed: int = key(
    0, "branches that make the logits, 0 = all; 2 = as AdvSemiSeg's code returns", at_least=0
  )

  needs = ("high",)
  align_corners = True
  torch_backbone = ""
  torch_names = ((r"branch(\d+)", r"layer5.conv2d_list.\1"),)

  def __post_init__(self):
    if not 0 <= self.summed <= len(self.rates):
      raise ConfigError(
        f"model.deeplabv2.summed={self.summed}: 0 (all) to {len(self.rates)}, the number of "
        f"model.deeplabv2.rates={self.rates}."
      )
    super().__post_init__()

  @property
  def idle(self) -> tuple[str, ...]:
    """The branches that no loss reaches: their weights must not decay either."""
    return tuple(f"branch{i}" for i in range(self.summed or len(self.rates), len(self.rates)))

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name, at the stride of 'high'; 'features' are the classifier's."""
    x = features["high"]
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    branches = [
      Conv(
        self.num_classes, 3, dilation=rate, padding=rate, bias=True, law=_law, name=f"branch{i}"
      )(x, mode.in_float32())
      for i, rate in enumerate(self.rates)
    ]
    return {"logits": sum(branches[: self.summed or None]), "features": x}
