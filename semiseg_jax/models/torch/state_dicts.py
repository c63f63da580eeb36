"""Our networks as PyTorch state dicts with the published names."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from flax import traverse_util

from semiseg_jax.models.parts import Parts
from semiseg_jax.models.torch import torch_names

COUNTER = "num_batches_tracked"


def to_state_dict(
  network: Parts, params: Any, batch_stats: Any, prefix: str = ""
) -> dict[str, np.ndarray]:
  """Returns state-dict name -> array in PyTorch's layout, every leaf of one network.

  The constants that the published network has among its buffers are there too.  Every batch
  normalization has its counter of batches, 0: PyTorch reads it only where there is no momentum.

  Args:
    network: whose names.
    params: its parameters, without the axis of a stack.
    batch_stats: its statistics.
    prefix: put before every name.

  Raises:
    WeightsError: a part has no PyTorch counterpart.
  """
  leaves = {
    path: leaf
    for tree in (params, batch_stats)
    for path, leaf in traverse_util.flatten_dict(tree).items()
  }
  names = torch_names.network_names(network)
  state = {names[path]: np.array(torch_names.to_torch(leaf)) for path, leaf in leaves.items()}
  state |= torch_names.network_buffers(network)
  state |= {counter: np.zeros((), np.int64) for counter in counters(state)}
  return {prefix + name: np.array(state[name], order="C") for name in sorted(state, key=_natural)}


def counters(names: Iterable[str]) -> list[str]:
  """The names of the counters of batches that belong to the running means among `names`."""
  mean = "running_mean"
  return [f"{name.removesuffix(mean)}{COUNTER}" for name in names if name.endswith(mean)]


def _natural(name: str) -> list[tuple[bool, int, str]]:
  """Sorts 'layer1.10' after 'layer1.9'."""
  return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in name.split(".")]


def optional_names(network: Parts) -> set[str]:
  """Names of parameters that no output depends on, which some publishers leave out."""
  patterns = [p for part in network.parts.values() for p in getattr(part, "torch_optional", ())]
  names = torch_names.network_names(network).values()
  return {name for name in names if any(re.search(pattern, name) for pattern in patterns)}
