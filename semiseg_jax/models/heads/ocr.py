"""Object-contextual representations (Yuan, Chen, Wang 2020) as openseg.pytorch has them on HRNet.

A coarse segmentation weighs the pixels of each class into one region vector; every pixel then adds
the regions that it attends to.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models import initializers, platforms
from semiseg_jax.models.layers import Conv, ConvNorm, Dropout, Mode
from semiseg_jax.options import key

LAW = initializers.torch_kernel
# Our modules -> those of openseg.
_ATTENTION = "ocr_distri_head.object_context_block"
TORCH_NAMES = (
  (r"aux_hidden/conv", r"aux_head.0"),
  (r"aux_hidden/bn", r"aux_head.1.0"),
  (r"aux_classifier", r"aux_head.2"),
  (r"reduce/conv", r"conv3x3.0"),
  (r"reduce/bn", r"conv3x3.1.0"),
  (r"(pixel|object)0/conv", rf"{_ATTENTION}.f_\1.0"),
  (r"(pixel|object)0/bn", rf"{_ATTENTION}.f_\1.1.0"),
  (r"(pixel|object)1/conv", rf"{_ATTENTION}.f_\1.2"),
  (r"(pixel|object)1/bn", rf"{_ATTENTION}.f_\1.3.0"),
  (r"(down|up)/conv", rf"{_ATTENTION}.f_\1.0"),
  (r"(down|up)/bn", rf"{_ATTENTION}.f_\1.1.0"),
  (r"fuse/conv", r"ocr_distri_head.conv_bn_dropout.0"),
  (r"fuse/bn", r"ocr_distri_head.conv_bn_dropout.1.0"),
  (r"classifier", r"cls_head"),
)


def region_vectors(logits: jax.Array, features: jax.Array) -> jax.Array:
  """r_k = sum_p softmax_p(logits_k) features(p).

  Args:
    logits: [B,h,w,K] float32; the softmax runs over the pixels of an image, per class.
    features: [B,h,w,C].

  Returns:
    [B,K,C] float32.
  """
  if platforms.is_onnx():  # whose converter knows a softmax over one axis alone
    logits, features = (x.reshape(x.shape[0], 1, -1, x.shape[-1]) for x in (logits, features))
  weights = jax.nn.softmax(logits, axis=2 if platforms.is_onnx() else (1, 2))
  return jnp.einsum("bhwk,bhwc->bkc", weights, features, preferred_element_type=logits.dtype)


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """sum_k softmax_k(query(p) . key_k / sqrt(D)) value_k: [B,h,w,D], [B,K,D] twice -> [B,h,w,D]."""
  high = jnp.promote_types(query.dtype, jnp.float32)
  scores = jnp.einsum("bhwd,bkd->bhwk", query, key, preferred_element_type=high)
  weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]), axis=-1).astype(value.dtype)
  return jnp.einsum("bhwk,bkd->bhwd", weights, value)


class OCR(nn.Module):
  """Feature 'high' [B,h,w,F] -> 'logits', 'aux_logits' [B,h,w,num_classes] float32, 'features'.

  'aux_logits' are the coarse segmentation; the published loss is CE + 0.4 CE of these.  Initial
  weights are PyTorch's defaults, as in openseg.

  Attributes:
    num_classes: channels of the logits.
    width: channels of pixels and of the context ("OCR_B": 256).
    key_width: channels of query, key and value ("OCR_B": 128).
    aux_width: channels before the coarse classifier, 0: those of 'high' ("OCR_B": 256).
    align_corners: how logits are resized to the picture.
  """

  num_classes: int
  width: int = key(512, "of pixels and their context; the cheaper OCR_B: 256", at_least=1)
  key_width: int = key(256, "of query, key and value; OCR_B: 128", at_least=1)
  aux_width: int = key(
    0, "of the coarse segmentation, 0 = as wide as the backbone's last map; OCR_B: 256", at_least=0
  )
  align_corners: bool = key(True, "how logits are resized")

  needs = ("high",)
  auxiliary = True  # gives them always
  torch_backbone = "backbone."
  torch_names = TORCH_NAMES

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name; 'features' are the classifier's, before the dropout."""
    x = features["high"]
    coarse = self._unit(self.aux_width or x.shape[-1], "aux_hidden", 3)(x, mode)
    aux_logits = self._classify(coarse, mode, "aux_classifier")
    pixels = self._unit(self.width, "reduce", 3)(x, mode)
    regions = region_vectors(aux_logits, pixels)[:, :, None]  # [B,K,1,width], a map for BatchNorm
    query, key = pixels, regions
    for i in range(2):
      query = self._unit(self.key_width, f"pixel{i}")(query, mode)
      key = self._unit(self.key_width, f"object{i}")(key, mode)
    value = self._unit(self.key_width, "down")(regions, mode)
    context = attend(query, key[:, :, 0], value[:, :, 0])
    context = self._unit(self.width, "up")(context, mode)
    y = self._unit(self.width, "fuse")(jnp.concatenate([context, pixels], -1), mode)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    dropped = Dropout(0.05, whole_maps=True, name="dropout")(y, mode)
    logits = self._classify(dropped, mode, "classifier")
    return {"logits": logits, "aux_logits": aux_logits, "features": y}

  def _unit(self, width: int, name: str, kernel: int = 1) -> ConvNorm:
    return ConvNorm(width, kernel, bias=True, law=LAW, name=name)

  def _classify(self, x: jax.Array, mode: Mode, name: str) -> jax.Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return Conv(self.num_classes, bias=True, law=LAW, name=name)(x, mode.in_float32())
