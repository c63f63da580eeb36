"""Names and layouts of our parameters in PyTorch state dicts.

Each module states its own rules, `torch_names`: pairs of our module path (a regular expression) and
their module name (an expansion), of which the first match counts.  A head's rules give names of the
whole network, and its `torch_backbone` is what stands before the names of a backbone, or rules that
change them.  One map serves both directions: it has every leaf of a network and is one to one.
"""

import re
from typing import Any

import numpy as np
from flax import linen as nn
from flax import traverse_util

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.network import BACKBONES
from semiseg_jax.models.parts import Parts

LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
Rules = tuple[tuple[str, str], ...]


def torch_name(rules: Rules, path: tuple[str, ...]) -> str:
  """Returns the state-dict name of the leaf at `path`, e.g. ('layer1_0', 'unit1', 'bn', 'mean').

  The rules are asked for the module of a leaf in LEAVES, and for the whole path of any other.

  Raises:
    WeightsError: no rule knows it.
  """
  known = path[-1] in LEAVES
  wanted = "/".join(path[:-1] if known else path)
  for pattern, name in rules:
    match = re.fullmatch(pattern, wanted)
    if match:
      return f"{match.expand(name)}.{LEAVES[path[-1]]}" if known else match.expand(name)
  raise WeightsError(f"No PyTorch name is known for {'/'.join(path)}; add a rule to its module.")


def network_names(network: Parts) -> dict[tuple[str, ...], str]:
  """Lists the state-dict name of every leaf of a whole network.

  Returns:
    Path such as ('encoder', 'layer1_0', 'unit1', 'bn', 'mean') -> state-dict name.

  Raises:
    WeightsError: a part has no PyTorch counterpart.
  """
  paths = [path for tree in network.shapes() for path in traverse_util.flatten_dict(tree)]
  rules = {part: _rules(module) for part, module in network.parts.items()}
  names = {path: torch_name(rules[path[0]], path[1:]) for path in paths}
  return {
    path: _in_network(network.decoder.torch_backbone, name) if path[0] == "encoder" else name
    for path, name in names.items()
  }


def network_buffers(network: Parts) -> dict[str, np.ndarray]:
  """Returns state-dict name -> array of what the published network holds besides our leaves."""
  encoder = network.parts.get("encoder")
  buffers = getattr(encoder, "torch_buffers", {})
  return {
    _in_network(network.decoder.torch_backbone, name): array for name, array in buffers.items()
  }


def _in_network(torch_backbone: str | Rules, name: str) -> str:
  """Returns what the backbone's `name` is in the whole network's state dict."""
  if isinstance(torch_backbone, str):
    return torch_backbone + name
  return next(
    match.expand(new) for old, new in torch_backbone if (match := re.fullmatch(old, name))
  )


def backbone_rules(backbone: str) -> Rules:
  """Returns the rules of a backbone; `WeightsError` for one that PyTorch does not have."""
  return _rules(BACKBONES[backbone]())


def published_backbones() -> tuple[str, ...]:
  """Returns the backbones that have a PyTorch counterpart."""
  return tuple(name for name, make in BACKBONES.items() if make().torch_names)


def _rules(module: nn.Module) -> Rules:
  if not module.torch_names:
    raise WeightsError(
      f"{type(module).__name__} has no PyTorch counterpart; backbones that have: "
      f"{', '.join(published_backbones())}."
    )
  return module.torch_names


def from_torch(array: np.ndarray) -> np.ndarray:
  """Kernels [out,in,kh,kw] -> [kh,kw,in,out], matrices [out,in] -> [in,out]; others unchanged.

  Kernels of transposed convolutions, [in,out,kh,kw] there, are [kh,kw,out,in] here.
  """
  if array.ndim == 4:
    return array.transpose(2, 3, 1, 0)
  return array.T if array.ndim == 2 else array


def to_torch(array: Any) -> np.ndarray:
  """The inverse of `from_torch`."""
  array = np.asarray(array)
  if array.ndim == 4:
    return array.transpose(3, 2, 0, 1)
  return array.T if array.ndim == 2 else array


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape of one of our leaves in PyTorch's layout."""
  if len(shape) == 4:
    return (shape[3], shape[2], shape[0], shape[1])
  return tuple(shape[::-1]) if len(shape) == 2 else tuple(shape)
