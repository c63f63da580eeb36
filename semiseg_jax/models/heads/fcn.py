"""The fully convolutional head: one hidden convolution, one classifier, on the last map.

It was made for HRNet, whose last map has stride 4; its logits have the stride of that map.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.layers import Conv, ConvNorm, Dropout, Mode
from semiseg_jax.options import key

# Variant -> kernel of the hidden convolution, bias of the classifier, dropout of whole maps.
VARIANTS = {"contrast": (3, False, 0.1), "official": (1, True, 0.0)}
# Our modules -> those of the code bases.
TORCH_NAMES = {
  "contrast": (
    (r"hidden/conv", r"cls_head.0"),
    (r"hidden/bn", r"cls_head.1.0"),
    (r"classifier", r"cls_head.3"),
  ),
  "official": (
    (r"hidden/conv", r"last_layer.0"),
    (r"hidden/bn", r"last_layer.1"),
    (r"classifier", r"last_layer.3"),
  ),
}


class FCN(nn.Module):
  """Feature 'high' [B,h,w,K] -> {'logits': [B,h,w,num_classes] float32, 'features': [B,h,w,K]}.

  Initial weights are PyTorch's defaults, as in both code bases.

  Attributes:
    num_classes: channels of the logits.
    variant: 'contrast', the head of ContrastiveSeg and of its HRNet baseline (3x3 convolution,
      BatchNorm, ReLU, dropout of whole maps at 0.1, classifier without bias), or 'official', that
      of the HRNet authors (1x1 convolution, BatchNorm, ReLU, classifier with bias).
    align_corners: how logits are resized to the picture: ContrastiveSeg True, PaddleSeg and the
      HRNet authors False.
  """

  num_classes: int
  variant: str = key(
    "contrast", "'official': the HRNet authors', 1x1 and without dropout", one_of=VARIANTS
  )
  align_corners: bool = key(True, "how logits are resized; PaddleSeg and the authors: False")

  needs = ("high",)

  def __post_init__(self):
    if self.variant not in VARIANTS:
      raise ConfigError(f"model.fcn.variant is {self.variant!r}; possible: {', '.join(VARIANTS)}.")
    super().__post_init__()

  @property
  def torch_backbone(self) -> str:
    """What stands before the backbone's names."""
    return "backbone." if self.variant == "contrast" else ""

  @property
  def torch_names(self) -> tuple[tuple[str, str], ...]:
    """Names in the code base of the variant."""
    return TORCH_NAMES[self.variant]

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name; 'features' are the classifier's, before the dropout."""
    kernel, bias, rate = VARIANTS[self.variant]
    x, law = features["high"], initializers.torch_kernel
    x = ConvNorm(x.shape[-1], kernel, bias=True, law=law, name="hidden")(x, mode)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    dropped = Dropout(rate, whole_maps=True, name="dropout")(x, mode)
    classifier = Conv(self.num_classes, bias=bias, law=law, name="classifier")
    return {"logits": classifier(dropped, mode.in_float32()), "features": x}
