"""Golden files: outputs of reference implementations, and the weights behind them.

The files are read from the folder in the environment variable SEMISEG_GOLDEN_DIR, or from the few
copies in tests/golden; a test whose file is absent is skipped by name.  Weights are not stored:
each is a function of its name and shape in the reference's state dict.
"""

import json
import os
import pathlib
import zlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.models.parts import Parts
from semiseg_jax.models.torch import torch_names


def golden_path(file_name: str) -> pathlib.Path:
  """Returns the path of a golden file; skips the test when it is absent."""
  default = pathlib.Path(__file__).parent / "golden"
  path = pathlib.Path(os.environ.get("SEMISEG_GOLDEN_DIR") or default) / file_name
  if not path.exists():
    pytest.skip(f"golden file {file_name} is absent; set SEMISEG_GOLDEN_DIR to a folder with it")
  return path


def golden(name: str) -> dict[str, np.ndarray]:
  """Returns the arrays of `name`.npz."""
  with np.load(golden_path(f"{name}.npz")) as file:
    return dict(file)


def golden_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the float32 tensor of the state-dict entry `name`, in PyTorch's layout `shape`."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  is_vector, is_weight = len(shape) == 1, name.endswith("weight")
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  if name.endswith("running_var") or (is_vector and is_weight):
    values = 0.5 + rng.random(shape)
  elif len(shape) < 2 or name.endswith("bias"):
    values = 0.1 * rng.standard_normal(shape)
  else:
    values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
  return values.astype(np.float32)


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
  """Returns state-dict name -> shape from `name`.params.json, counters of batches left out."""
  entries = json.loads(golden_path(f"{name}.params.json").read_text())
  return {
    entry: tuple(shape)
    for entry, shape in entries.items()
    if not entry.endswith("num_batches_tracked")
  }


def torch_shapes(network: Parts) -> dict[str, tuple[int, ...]]:
  """Returns state-dict name -> shape of every leaf of `network`, in PyTorch's layout."""
  names = torch_names.network_names(network)
  leaves = {p: x for tree in network.shapes() for p, x in traverse_util.flatten_dict(tree).items()}
  shapes = {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()}
  assert len(shapes) == len(leaves), "two leaves have one name"
  return shapes


def golden_params(network: Parts, prefix: str = "", damp_bn3: bool = False):
  """Returns (params, batch_stats) of `network`, float32 numpy trees, from golden tensors.

  Args:
    network: one whose backbone and head have PyTorch names.
    prefix: put before every name, e.g. 'branch1.'.
    damp_bn3: multiply each `bn3.weight` by 0.1, as the trajectories do.
  """
  shapes = network.shapes()
  names = torch_names.network_names(network)

  def tensor(path, leaf):
    values = golden_tensor(prefix + names[path], torch_names.torch_shape(leaf.shape))
    if damp_bn3 and names[path].endswith("bn3.weight"):
      values = values * np.float32(0.1)
    return torch_names.from_torch(values)

  return tuple(
    traverse_util.unflatten_dict(
      {
        path: tensor(path, leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        for path, leaf in traverse_util.flatten_dict(tree, keep_empty_nodes=True).items()
      }
    )
    for tree in shapes
  )
