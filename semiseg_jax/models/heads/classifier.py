"""The head of a classifier of whole pictures: global average pool and a linear layer."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.backbones.tokens import Dense
from semiseg_jax.models.layers import Mode


class Classifier(nn.Module):
  """Feature 'high' [B,h,w,K] -> {'logits': [B,1,1,num_classes], 'features': [B,1,1,K]} float32.

  The head of torchvision's ResNets, under its name there.  Initial weights are PyTorch's.

  Attributes:
    num_classes: channels of the logits.
  """

  num_classes: int

  labels_pictures = True  # its logits are of whole pictures
  needs = ("high",)
  align_corners = True
  torch_backbone = ""
  torch_names = ((r"classifier", r"fc"),)

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name; 'features' are the classifier's."""
    x = features["high"]
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2), keepdims=True)
    classifier = Dense(
      self.num_classes, initializers.torch_kernel, initializers.torch_bias, name="classifier"
    )
    return {"logits": classifier(x, mode.in_float32()), "features": x}
