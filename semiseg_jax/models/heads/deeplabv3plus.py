"""The DeepLabv3+ head in the variants of six code bases.

'cac', 'unimatch', 'st', 'reco' and 'u2pl' are the head of the paper: an ASPP whose branches are
normalized one by one and concatenated, a decoder at stride 4.  'torchsemiseg' (CPS) has an
in-place-ABN style ASPP instead.  'reco' and 'u2pl' have a second branch beside the decoder's
convolutions, the projections of those names.  What else differs is in VARIANTS.  The backbones they
were published with, and their options:

| variant | backbone | options of `resnet` | dropout |
|---|---|---|---|
| torchsemiseg | resnet50_v1s, resnet101_v1s | | none |
| cac | resnet50, resnet101 | | 0.5, 0.5, 0.1 |
| unimatch | resnet50_v1s, resnet101_v1s | multi_grid=(1, 1, 1), dilate_first=False | none |
| reco | resnet101 | multi_grid=(1, 1, 1), dilate_first=False | none |
| u2pl | resnet101_v1s | multi_grid=(2, 2, 4), dilate_first=False, ceil_pool=True | 0.1 each |
| st | resnet50, resnet101 | multi_grid=(1, 1, 1), dilate_first=False | 0.5 of whole maps, 0, 0.1 |
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.layers import (
  BatchNorm,
  Conv,
  ConvNorm,
  Dropout,
  Mode,
  average_pool,
  leaky_relu,
)
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.options import key

Law = Callable[[int], initializers.Initializer]
PROJECTED = ("reco", "u2pl")  # variants with a projection of their own


@dataclasses.dataclass(frozen=True)
class Variant:
  """What is one code base's own.

  Attributes:
    joint_aspp: the ASPP is `JointASPP`.
    low_first: order of the concatenation in the decoder.
    dropout: rates after the ASPP, between the decoder's convolutions, before the classifier.
    whole_maps: which of these drop whole maps.
    pooled: the classifier also runs on features averaged over 2x2 pixels.
    law: initial kernels; biases are PyTorch's.
    torch_backbone: what stands before the backbone's names.
    torch_names: our modules -> those of the code base.
    project: kernel of the convolution after the ASPP's concatenation.
    pool_first: the pooled branch comes first in it.
    biased: convolutions of the decoder have biases.
  """

  joint_aspp: bool
  low_first: bool
  dropout: tuple[float, float, float]
  pooled: bool
  law: Law
  torch_backbone: str
  torch_names: tuple[tuple[str, str], ...]
  whole_maps: tuple[bool, bool, bool] = (False, False, False)
  project: int = 1
  pool_first: bool = False
  biased: bool = False


VARIANTS = {
  "torchsemiseg": Variant(
    joint_aspp=True,
    low_first=False,
    dropout=(0.0, 0.0, 0.0),
    pooled=False,
    law=initializers.kaiming_normal,
    torch_backbone="backbone.",
    torch_names=(
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
    ),
  ),
  "cac": Variant(
    joint_aspp=False,
    low_first=False,
    dropout=(0.5, 0.5, 0.1),
    pooled=True,
    law=initializers.kaiming_normal,
    torch_backbone="encoder.backbone.",
    torch_names=(
      (r"aspp/branch0/conv", r"encoder.aspp.aspp1.atrous_conv"),
      (r"aspp/branch0/bn", r"encoder.aspp.aspp1.bn"),
      (r"aspp/branch1/conv", r"encoder.aspp.aspp2.atrous_conv"),
      (r"aspp/branch1/bn", r"encoder.aspp.aspp2.bn"),
      (r"aspp/branch2/conv", r"encoder.aspp.aspp3.atrous_conv"),
      (r"aspp/branch2/bn", r"encoder.aspp.aspp3.bn"),
      (r"aspp/branch3/conv", r"encoder.aspp.aspp4.atrous_conv"),
      (r"aspp/branch3/bn", r"encoder.aspp.aspp4.bn"),
      (r"aspp/pool/conv", r"encoder.aspp.global_avg_pool.1"),
      (r"aspp/pool/bn", r"encoder.aspp.global_avg_pool.2"),
      (r"aspp/project/(conv|bn)", r"encoder.aspp.\g<1>1"),
      (r"reduce/(conv|bn)", r"encoder.decoder.\g<1>1"),
      (r"fuse0/conv", r"encoder.decoder.last_conv.0"),
      (r"fuse0/bn", r"encoder.decoder.last_conv.1"),
      (r"fuse1/conv", r"encoder.decoder.last_conv.4"),
      (r"fuse1/bn", r"encoder.decoder.last_conv.5"),
      (r"classifier", r"classifier.1"),
    ),
  ),
  "unimatch": Variant(
    joint_aspp=False,
    low_first=True,
    dropout=(0.0, 0.0, 0.0),
    pooled=False,
    law=initializers.torch_kernel,
    torch_backbone="backbone.",
    torch_names=(
      (r"aspp/branch(\d)/conv", r"head.b\1.0"),
      (r"aspp/branch(\d)/bn", r"head.b\1.1"),
      (r"aspp/pool/conv", r"head.b4.gap.1"),
      (r"aspp/pool/bn", r"head.b4.gap.2"),
      (r"aspp/project/conv", r"head.project.0"),
      (r"aspp/project/bn", r"head.project.1"),
      (r"reduce/conv", r"reduce.0"),
      (r"reduce/bn", r"reduce.1"),
      (r"fuse0/conv", r"fuse.0"),
      (r"fuse0/bn", r"fuse.1"),
      (r"fuse1/conv", r"fuse.3"),
      (r"fuse1/bn", r"fuse.4"),
      (r"classifier", r"classifier"),
    ),
  ),
  "reco": Variant(
    joint_aspp=False,
    low_first=True,
    dropout=(0.0, 0.0, 0.0),
    pooled=False,
    law=initializers.torch_kernel,
    torch_backbone="resnet_",
    torch_names=(
      (r"aspp/branch(\d)/conv", r"ASPP.convs.\1.0"),
      (r"aspp/branch(\d)/bn", r"ASPP.convs.\1.1"),
      (r"aspp/pool/conv", r"ASPP.convs.4.1"),
      (r"aspp/pool/bn", r"ASPP.convs.4.2"),
      (r"aspp/project/conv", r"ASPP.project.0"),
      (r"aspp/project/bn", r"ASPP.project.1"),
      (r"reduce/conv", r"project.0"),
      (r"reduce/bn", r"project.1"),
      (r"fuse0/conv", r"classifier.0"),
      (r"fuse0/bn", r"classifier.1"),
      (r"classifier", r"classifier.3"),
    ),
  ),
  "u2pl": Variant(
    joint_aspp=False,
    low_first=True,
    dropout=(0.1, 0.1, 0.1),
    pooled=False,
    law=initializers.torch_kernel,
    torch_backbone="encoder.",
    torch_names=(
      (r"aspp/branch0/conv", r"decoder.aspp.conv2.0"),
      (r"aspp/branch0/bn", r"decoder.aspp.conv2.1"),
      (r"aspp/branch1/conv", r"decoder.aspp.conv3.0"),
      (r"aspp/branch1/bn", r"decoder.aspp.conv3.1"),
      (r"aspp/branch2/conv", r"decoder.aspp.conv4.0"),
      (r"aspp/branch2/bn", r"decoder.aspp.conv4.1"),
      (r"aspp/branch3/conv", r"decoder.aspp.conv5.0"),
      (r"aspp/branch3/bn", r"decoder.aspp.conv5.1"),
      (r"aspp/pool/conv", r"decoder.aspp.conv1.1"),
      (r"aspp/pool/bn", r"decoder.aspp.conv1.2"),
      (r"aspp/project/conv", r"decoder.head.0"),
      (r"aspp/project/bn", r"decoder.head.1"),
      (r"reduce/conv", r"decoder.low_conv.0"),
      (r"reduce/bn", r"decoder.low_conv.1"),
      (r"fuse0/conv", r"decoder.classifier.0"),
      (r"fuse0/bn", r"decoder.classifier.1"),
      (r"fuse1/conv", r"decoder.classifier.4"),
      (r"fuse1/bn", r"decoder.classifier.5"),
      (r"classifier", r"decoder.classifier.8"),
      (r"aux_hidden/conv", r"auxor.aux.0"),
      (r"aux_hidden/bn", r"auxor.aux.1"),
      (r"aux_classifier", r"auxor.aux.4"),
    ),
    project=3,
    pool_first=True,
    biased=True,
    whole_maps=(True, True, True),
  ),
}
# ST++, of which UniMatch kept all but the dropout.
VARIANTS["st"] = dataclasses.replace(
  VARIANTS["unimatch"], dropout=(0.5, 0.0, 0.1), whole_maps=(True, False, False)
)


class ASPP(nn.Module):
  """Atrous spatial pyramid pooling of DeepLabv3: [B,h,w,C] -> [B,h,w,width]."""

  width: int
  rates: tuple[int, ...]
  law: Law
  whole_maps: tuple[bool, bool, bool] = (False, False, False)
  project: int = 1
  pool_first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,h,w,width]."""
    branches = [ConvNorm(self.width, law=self.law, name="branch0")(x, mode)]
    for i, rate in enumerate(self.rates, 1):
      branch = ConvNorm(self.width, 3, dilation=rate, law=self.law, name=f"branch{i}")
      branches.append(branch(x, mode))
    y, pooled = branches[0], jnp.mean(x, axis=(1, 2), keepdims=True)
    pooled = ConvNorm(self.width, law=self.law, name="pool")(pooled, mode)
    branches.insert(0 if self.pool_first else len(branches), jnp.broadcast_to(pooled, y.shape))
    project = ConvNorm(self.width, self.project, law=self.law, name="project")
    return project(jnp.concatenate(branches, -1), mode)


class JointASPP(nn.Module):
  """The ASPP of TorchSemiSeg: [B,h,w,C] -> [B,h,w,width].

  The dilated branches share one BatchNorm over their concatenation, the pooled branch is added
  instead of concatenated, and activations are LeakyReLU(0.01).
  """

  width: int
  rates: tuple[int, ...]
  law: Law

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,h,w,width]."""
    branches = [Conv(self.width, law=self.law, name="branch0")(x, mode)]
    for i, rate in enumerate(self.rates, 1):
      branch = Conv(self.width, 3, 1, rate, rate, law=self.law, name=f"branch{i}")
      branches.append(branch(x, mode))
    y = leaky_relu(BatchNorm(name="map_bn")(jnp.concatenate(branches, -1), mode))
    y = Conv(self.width, law=self.law, name="red_conv")(y, mode)
    pooled = jnp.mean(x, axis=(1, 2), keepdims=True)
    pooled = Conv(self.width, law=self.law, name="pool_conv")(pooled, mode)
    pooled = leaky_relu(BatchNorm(name="pool_bn")(pooled, mode))
    pooled = Conv(self.width, law=self.law, name="pool_red_conv")(pooled, mode)
    return leaky_relu(BatchNorm(name="red_bn")(y + pooled, mode))


class DeepLabV3Plus(nn.Module):
  """Features 'low' [B,h,w,c] and 'high' -> {'logits': [B,h,w,num_classes] float32, 'features'}.

  'fused' [B,h,w,low_width + aspp_width] are the decoder's concatenation, for the projections 'reco'
  and 'u2pl'; variants of those names give it.

  Attributes:
    num_classes: channels of the logits.
    variant: a key of VARIANTS.
    aspp_width: channels of every ASPP branch and of its output.
    aspp_rates: dilations of the 3x3 branches.
    low_width: channels to which 'low' is reduced.
    decoder_width: channels of the 3x3 convolutions after the concatenation.
    decoder_convs: number of these.
    auxiliary: 'stage3' is needed as well, and gives 'aux_logits' at its stride.
  """

  num_classes: int
  variant: str = key("torchsemiseg", "whose; all the others have plain ASPPs", one_of=VARIANTS)
  aspp_width: int = key(256, "channels of every ASPP branch", at_least=1)
  aspp_rates: tuple[int, ...] = key((6, 12, 18), "dilations of its 3x3 branches", at_least=1)
  low_width: int = key(48, "channels to which the early feature is reduced", at_least=1)
  decoder_width: int = key(256, "channels of the decoder's convolutions", at_least=1)
  decoder_convs: int = key(2, "number of these", at_least=0)
  auxiliary: bool = key(False, "a second classifier on the third stage, for methods that read it")

  needs = ("low", "high")
  align_corners = True

  def __post_init__(self):
    if self.variant not in VARIANTS:
      raise ConfigError(
        f"model.deeplabv3plus.variant is {self.variant!r}; possible: {', '.join(VARIANTS)}."
      )
    super().__post_init__()

  @property
  def torch_backbone(self) -> str:
    """What stands before the backbone's names."""
    return VARIANTS[self.variant].torch_backbone

  @property
  def torch_names(self) -> tuple[tuple[str, str], ...]:
    """Names in the code base of the variant."""
    return VARIANTS[self.variant].torch_names

  @nn.compact
  def __call__(self, features: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
    """Returns the outputs by name, at the stride of 'low'; 'features' are the classifier's.

    Variant 'cac' also gives 'logits_pooled' [B,h//2,w//2,num_classes], of features averaged over
    2x2 pixels: an odd last row or column is dropped, and the dropout is drawn at that size; and
    'logits_undropped', the same without the classifier's dropout.
    """
    variant = VARIANTS[self.variant]
    fused = self._fused(variant, features, mode)
    x = self._decoder(variant, fused, mode)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    classifier = Conv(self.num_classes, bias=True, law=variant.law, name="classifier")

    def classify(x: jax.Array, dropout: str) -> jax.Array:
      dropped = Dropout(variant.dropout[2], variant.whole_maps[2], name=dropout)(x, mode)
      return classifier(dropped, mode.in_float32())

    outputs = {"logits": classify(x, "dropout"), "features": x}
    if variant.pooled:
      pooled = average_pool(x, 2)
      outputs["logits_pooled"] = classify(pooled, "dropout_pooled")
      outputs["logits_undropped"] = classifier(pooled, mode.in_float32())
    if self.variant in PROJECTED:
      outputs["fused"] = fused
    if self.auxiliary:
      outputs["aux_logits"] = self._auxiliary(variant, features, mode)
    return outputs

  def _fused(self, variant: Variant, features: dict[str, jax.Array], mode: Mode) -> jax.Array:
    law, whole = variant.law, variant.whole_maps[0]
    low = ConvNorm(self.low_width, bias=variant.biased, law=law, name="reduce")
    low = low(features["low"], mode)
    aspp = (
      JointASPP
      if variant.joint_aspp
      else functools.partial(ASPP, project=variant.project, pool_first=variant.pool_first)
    )
    x = aspp(self.aspp_width, self.aspp_rates, law, name="aspp")(features["high"], mode)
    x = Dropout(variant.dropout[0], whole, name="aspp_dropout")(x, mode)
    x = resize_bilinear(x, low.shape[1:3], self.align_corners)
    return jnp.concatenate([low, x] if variant.low_first else [x, low], -1)

  def _decoder(self, variant: Variant, x: jax.Array, mode: Mode) -> jax.Array:
    for i in range(self.decoder_convs):
      if i:
        x = Dropout(variant.dropout[1], variant.whole_maps[1], name=f"fuse{i - 1}_dropout")(x, mode)
      fuse = ConvNorm(self.decoder_width, 3, bias=variant.biased, law=variant.law, name=f"fuse{i}")
      x = fuse(x, mode)
    return x

  def _auxiliary(self, variant: Variant, features: dict[str, jax.Array], mode: Mode) -> jax.Array:
    if "stage3" not in features:
      raise ConfigError(
        "model.deeplabv3plus.auxiliary needs the feature 'stage3', and the backbone gives "
        f"{', '.join(features)}: set it to False, or take a ResNet."
      )
    hidden = ConvNorm(self.decoder_width, 3, bias=True, law=variant.law, name="aux_hidden")
    x = hidden(features["stage3"], mode)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = Dropout(0.1, whole_maps=True, name="aux_dropout")(x, mode)
    classifier = Conv(self.num_classes, bias=True, law=variant.law, name="aux_classifier")
    return classifier(x, mode.in_float32())
