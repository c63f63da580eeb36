"""Names and layouts of our parameters in PyTorch state dicts.

Backbones: the deep-stem ResNet of the CPS code base, torchvision's MobileNetV2.  Whole networks:
`backbone.`, `head.`, `classifier.` as that code base saves them.  One map serves both directions:
`torch_names` lists (our path, their name) for every leaf of a network, and is one to one.
"""

import re
from typing import Any

import numpy as np
from flax import traverse_util

LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}

# Our module path (a regular expression) -> their module name (an expansion), first match counts.
RESNET = (
  (r"stem/unit1/conv", r"conv1.0"),
  (r"stem/unit1/bn", r"conv1.1"),
  (r"stem/unit2/conv", r"conv1.3"),
  (r"stem/unit2/bn", r"conv1.4"),
  (r"stem/unit3/conv", r"conv1.6"),
  (r"stem/unit3/bn", r"bn1"),
  (r"layer(\d)_(\d+)/unit(\d)/(conv|bn)", r"layer\1.\2.\4\3"),
  (r"layer(\d)_(\d+)/downsample/conv", r"layer\1.\2.downsample.0"),
  (r"layer(\d)_(\d+)/downsample/bn", r"layer\1.\2.downsample.1"),
)
MOBILENET_V2 = (
  (r"stem/conv", r"features.0.0"),
  (r"stem/bn", r"features.0.1"),
  (r"block1/depthwise/conv", r"features.1.conv.0.0"),
  (r"block1/depthwise/bn", r"features.1.conv.0.1"),
  (r"block1/project/conv", r"features.1.conv.1"),
  (r"block1/project/bn", r"features.1.conv.2"),
  (r"block(\d+)/expand/conv", r"features.\1.conv.0.0"),
  (r"block(\d+)/expand/bn", r"features.\1.conv.0.1"),
  (r"block(\d+)/depthwise/conv", r"features.\1.conv.1.0"),
  (r"block(\d+)/depthwise/bn", r"features.\1.conv.1.1"),
  (r"block(\d+)/project/conv", r"features.\1.conv.2"),
  (r"block(\d+)/project/bn", r"features.\1.conv.3"),
)
DEEPLABV3PLUS = (
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
BACKBONES = {"resnet50": RESNET, "resnet101": RESNET, "mobilenet_v2": MOBILENET_V2}


def torch_name(rules: tuple[tuple[str, str], ...], path: tuple[str, ...]) -> str:
  """Returns the state-dict name of the leaf at `path`, e.g. ('layer1_0', 'unit1', 'bn', 'mean').

  Raises:
    ValueError: no rule knows the module.
  """
  module = "/".join(path[:-1])
  for pattern, name in rules:
    match = re.fullmatch(pattern, module)
    if match:
      return f"{match.expand(name)}.{LEAVES[path[-1]]}"
  raise ValueError(f"No PyTorch name is known for {'/'.join(path)}; add a rule to torch_names.py.")


def torch_names(backbone: str, params: Any, batch_stats: Any) -> dict[tuple[str, ...], str]:
  """Lists the state-dict name of every leaf of a whole network.

  Args:
    backbone: its name, as `Network.backbone`.
    params: {'encoder': ..., 'decoder': ...}; only its structure is read.
    batch_stats: the same for the statistics.

  Returns:
    Path such as ('encoder', 'layer1_0', 'unit1', 'bn', 'mean') -> state-dict name.
  """
  paths = [*traverse_util.flatten_dict(params), *traverse_util.flatten_dict(batch_stats)]
  return {path: _whole_name(backbone, path) for path in paths}


def _whole_name(backbone: str, path: tuple[str, ...]) -> str:
  if path[0] == "encoder":
    return f"backbone.{torch_name(backbone_rules(backbone), path[1:])}"
  return torch_name(DEEPLABV3PLUS, path[1:])


def backbone_rules(backbone: str) -> tuple[tuple[str, str], ...]:
  """Returns the rules of a backbone; `ValueError` for one that PyTorch does not have."""
  if backbone not in BACKBONES:
    raise ValueError(
      f"The backbone {backbone!r} has no PyTorch counterpart; "
      f"those that have: {', '.join(BACKBONES)}."
    )
  return BACKBONES[backbone]


def from_torch(array: np.ndarray) -> np.ndarray:
  """Kernels [out,in,kh,kw] -> [kh,kw,in,out]; everything else unchanged."""
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape of one of our leaves in PyTorch's layout."""
  return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else tuple(shape)
