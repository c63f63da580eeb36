"""HRNet with its heads against golden files of PyTorch's and of PaddlePaddle's network."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs import presets
from semiseg_jax.config import schema
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, golden_path

pytestmark = pytest.mark.slow

# File -> backbone, and whether PaddlePaddle made it.
FILES = {
  "hrnet_w18_seg": ("hrnet_w18", False),
  "hrnet_w48_seg": ("hrnet_w48", False),
  "hrnet_w48_seed_seg": ("hrnet_w48", True),
}
# Of the array's maximum; weights of chance let the activations of 'eval' grow to 1e10.
TOLERANCE = {"eval": 2e-5, "train": 5e-4}


def _network(name, arrays):
  config = schema.default()
  backbone, paddle = FILES[name]
  embedding = arrays["train_embed0" if paddle else "train_embed"]
  config.model.update(backbone=backbone, head="fcn")
  config.model.projection.update(kind="convmlp", width=embedding.shape[1])
  if paddle:
    presets.hrnet_of_paddle(config)
  return build_network(config.model, num_classes=arrays["eval_seg"].shape[1], in_channels=3)


def _run(network, params, batch_stats, x, mode):
  # Without jit: the few distinct shapes compile in less than half the time of two whole programs.
  features, batch_stats = network.encode(params, batch_stats, x, mode)
  outputs, batch_stats = network.decode(params, batch_stats, features, mode)
  full = resize_bilinear(outputs["logits"][:1], x.shape[1:3], network.align_corners)
  maps = {f"branch{b}": features[f"branch{b}"] for b in range(4)}
  maps |= {"feats": features["high"], "seg": outputs["logits"], "full0": full}
  return {**maps, "embed": outputs["embedding"]}, batch_stats


@pytest.fixture(scope="module", params=FILES)
def runs(request):
  """The golden arrays, the network, and our (maps, statistics) in both modes."""
  arrays = golden(request.param)
  network = _network(request.param, arrays)
  x = arrays["x"].transpose(0, 2, 3, 1)
  variables = golden_params(network)
  with jax.default_matmul_precision("highest"):
    ours = {bn: _run(network, *variables, x, network.mode(bn, (len(x),))) for bn in TOLERANCE}
  return arrays, network, ours


def _thinned(x, shape):
  """Every k-th number along each axis of `x`, as many as `shape` has."""
  x = x[: shape[0]]
  return x[tuple(slice(None, None, -(-n // m)) for n, m in zip(x.shape, shape))]


@pytest.mark.parametrize("bn", TOLERANCE)
def test_maps(runs, bn):
  arrays, _, ours = runs
  expected = {key: value for key, value in arrays.items() if key.startswith(f"{bn}_")}
  assert {"seg", "embed"} <= {key.removeprefix(f"{bn}_").rstrip("0") for key in expected}
  for key, value in expected.items():
    name = key.removeprefix(f"{bn}_")
    actual = ours[bn][0]["embed" if name == "embed0" else name]
    assert actual.dtype == np.float32
    actual = _thinned(np.asarray(actual).transpose(0, 3, 1, 2), value.shape)
    scale = 1 if bn == "eval" and "embed" in name else np.abs(value).max()
    np.testing.assert_allclose(actual, value, rtol=0, atol=TOLERANCE[bn] * scale, err_msg=key)


def test_embeddings_have_unit_length(runs):
  _, _, ours = runs
  norms = np.linalg.norm(np.asarray(ours["eval"][0]["embed"], np.float64), axis=-1)
  np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_running_statistics(runs):
  arrays, network, ours = runs
  stats = traverse_util.flatten_dict(ours["train"][1])
  names = torch_names.network_names(network)
  by_name = {f"after_{name}": stats[path] for path, name in names.items() if path in stats}
  checked = [key for key in arrays if key.startswith("after_")]
  assert checked
  for key in checked:
    np.testing.assert_allclose(by_name[key], arrays[key], rtol=0, atol=1e-3, err_msg=key)


@pytest.mark.parametrize("name", FILES)
def test_names_and_shapes(name):
  network = _network(name, golden(name))
  names = torch_names.network_names(network)
  leaves = {}
  for tree in network.shapes():
    leaves |= traverse_util.flatten_dict(tree)
  ours = {names[path]: list(torch_names.torch_shape(x.shape)) for path, x in leaves.items()}
  theirs = json.loads(golden_path(f"{name}.params.json").read_text())
  assert ours == {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
