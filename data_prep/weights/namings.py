"""Names that other publishers give to the tensors of a backbone.

A naming is a function from the name that our backbone has (torchvision, timm, the code bases) to
that of another publisher.
"""

import re
from collections.abc import Callable, Sequence

from data_prep.weights.dinov3 import ABSENT_BIAS
from semiseg_jax.models.backbones import efficientnet_lite, mobilenet_v2

Naming = Callable[[str], str]
USUAL = "the usual"
# The three convolutions of a deep stem and their normalizations.
_TORCH_SEMISEG = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")
_MMSEGMENTATION = ("stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7")
_TORCHCV = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
# Of a block with and without expansion: ours (timm's), torchvision's, efficientnet_lite_pytorch's.
_TIMM = (
  ("conv_dw", "bn1", "conv_pw", "bn2"),
  ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"),
)
_TORCHVISION = (
  ("conv.0.0", "conv.0.1", "conv.1", "conv.2"),
  ("conv.0.0", "conv.0.1", "conv.1.0", "conv.1.1", "conv.2", "conv.3"),
)
_LITE = (
  ("_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
  ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
)


def namings(backbone: str) -> dict[str, Naming]:
  """Returns whose names -> naming, in the order in which they are to be tried."""
  others: dict[str, Naming] = {}
  if backbone.startswith("resnet") and backbone.endswith("_v1s"):
    others["mmsegmentation's"] = _modules(dict(zip(_TORCH_SEMISEG, _MMSEGMENTATION)))
    others["torchcv's"] = _modules(dict(zip(_TORCH_SEMISEG, _TORCHCV)))
  elif backbone.startswith("resnet") and backbone.endswith("_v1c"):
    others["timm's"] = _modules(dict(zip(_MMSEGMENTATION, _TORCH_SEMISEG)))
  elif backbone == "mobilenet_v2":
    others["timm's"] = _modules(_mobilenet_in_timm())
  elif backbone in efficientnet_lite.ROWS:
    others["efficientnet_lite_pytorch's"] = _modules(_efficientnet_in_lite(backbone))
  elif backbone.startswith("dinov3"):
    others |= _dinov3()
  return {USUAL: lambda name: name, **others}


def _modules(theirs: dict[str, str]) -> Naming:
  """Renames whole modules at the start of a name; those that are not listed keep their names."""
  modules = "|".join(re.escape(module) for module in sorted(theirs, key=len, reverse=True))
  pattern = re.compile(rf"^({modules})(?=\.)")
  return lambda name: pattern.sub(lambda match: theirs[match[0]], name)


def _dinov3() -> dict[str, Naming]:
  """Names of tensors that `dinov3.gathered` has put together."""
  timm = (
    (r"storage_tokens", "reg_token"),
    (r"\.ls(\d)\.gamma", r".gamma_\1"),
    (r"mlp\.w1", "mlp.fc1_g"),
    (r"mlp\.w2", "mlp.fc1_x"),
    (r"mlp\.w3", "mlp.fc2"),
  )
  face = (
    (r"^(cls_token|mask_token)", r"embeddings.\1"),
    (r"storage_tokens", "embeddings.register_tokens"),
    (r"patch_embed\.proj", "embeddings.patch_embeddings"),
    (r"^blocks\.", "layer."),
    (r"\.attn\.proj", ".attention.o_proj"),
    (r"\.attn\.", ".attention."),
    (r"\.ls(\d)\.gamma", r".layer_scale\1.lambda1"),
    (r"mlp\.w1", "mlp.gate_proj"),
    (r"mlp\.(w2|fc1)", "mlp.up_proj"),
    (r"mlp\.(w3|fc2)", "mlp.down_proj"),
  )
  bare = (*timm, (r"\.qkv\.bias", f".{ABSENT_BIAS}"))
  return {
    "timm's": _substitutions(timm),
    "timm's (no biases of query and value: zeros)": _substitutions(bare),
    "Hugging Face's": _substitutions(face),
    "Hugging Face's, version 5": _substitutions((*face, (r"^layer\.", "model.layer."))),
  }


def _substitutions(rules: Sequence[tuple[str, str]]) -> Naming:
  def rename(name: str) -> str:
    for pattern, theirs in rules:
      name = re.sub(pattern, theirs, name)
    return name

  return rename


def _blocks(repeats: Sequence[int]) -> list[tuple[int, int]]:
  """(row, number within it) of each block, in order."""
  return [(row, i) for row, count in enumerate(repeats) for i in range(count)]


def _mobilenet_in_timm() -> dict[str, str]:
  theirs = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
  for n, (row, i) in enumerate(_blocks([count for _, count, _ in mobilenet_v2.ROWS]), 1):
    for ours, timm in zip(_TORCHVISION[row > 0], _TIMM[row > 0]):
      theirs[f"features.{n}.{ours}"] = f"blocks.{row}.{i}.{timm}"
  return theirs


def _efficientnet_in_lite(backbone: str) -> dict[str, str]:
  theirs = {"conv_stem": "_conv_stem", "bn1": "_bn0"}
  repeats = [row[-1] for row in efficientnet_lite.ROWS[backbone]]
  for n, (row, i) in enumerate(_blocks(repeats)):
    for timm, lite in zip(_TIMM[row > 0], _LITE[row > 0]):
      theirs[f"blocks.{row}.{i}.{timm}"] = f"_blocks.{n}.{lite}"
  return theirs
