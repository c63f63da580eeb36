"""The whole network of the CPS code base against its golden file (float64 PyTorch)."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, published_shapes, torch_shapes
from tests.model_config import model_config

pytestmark = pytest.mark.slow

NAME = "deeplabv3plus_r50_torchsemiseg"
TOLERANCE = {"eval": 1e-4, "train": 2e-3, "eval_after": 5e-4}
# Name of a map in the golden file -> path of the module whose output it is.
MAPS = {
  "stem": ("encoder", "stem"),
  "layer1": ("encoder", "layer1_2"),
  "layer2": ("encoder", "layer2_3"),
  "layer3": ("encoder", "layer3_5"),
  "layer4": ("encoder", "layer4_2"),
  "aspp": ("decoder", "aspp"),
  "reduce": ("decoder", "reduce"),
  "head": ("decoder", "fuse1"),
}


def _network(num_classes):
  return build_network(
    model_config(),
    num_classes=num_classes,
    in_channels=3,
  )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(network, variables, x, mode):
  """Returns full-size logits, the new batch_stats and the maps in MAPS."""
  params, batch_stats = variables
  keep = lambda module, _: any(module.path == path[1:] for path in MAPS.values())
  inputs, captured, moved = x, {}, {}
  for part in ("encoder", "decoder"):
    inputs, new = getattr(network, part).apply(
      {"params": params[part], "batch_stats": batch_stats[part]},
      inputs,
      mode,
      capture_intermediates=keep,
      mutable=["batch_stats", "intermediates"],
    )
    moved[part], captured[part] = new["batch_stats"], new["intermediates"]
  logits = resize_bilinear(inputs["logits"], x.shape[1:3], network.align_corners)
  maps = {name: captured[part][module]["__call__"][0] for name, (part, module) in MAPS.items()}
  return logits, moved, maps


@pytest.fixture(scope="module")
def runs():
  """The golden arrays, and our runs 'eval', 'train', 'eval_after' in that order."""
  arrays = golden(NAME)
  network = _network(arrays["logits_eval"].shape[1])
  params, batch_stats = golden_params(network)
  x = arrays["x"].transpose(0, 2, 3, 1)
  evaluate, train = Mode("eval"), Mode("train", groups=(len(x),))
  with jax.default_matmul_precision("highest"):
    ours = {"eval": _run(network, (params, batch_stats), x, evaluate)}
    ours["train"] = _run(network, (params, batch_stats), x, train)
    ours["eval_after"] = _run(network, (params, ours["train"][1]), x, evaluate)
  return arrays, ours


def test_names_and_shapes_are_the_published_ones():
  published = published_shapes(NAME)
  assert torch_shapes(_network(published["classifier.bias"][0])) == published


@pytest.mark.parametrize("run", TOLERANCE)
def test_logits(runs, run):
  arrays, ours = runs
  expected = arrays[f"logits_{run}"].transpose(0, 2, 3, 1)
  assert ours[run][0].dtype == np.float32
  error = np.abs(ours[run][0] - expected).max() / np.abs(expected).max()
  assert error < TOLERANCE[run]


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("run", TOLERANCE)
def test_intermediate_maps(runs, run, name):
  arrays, ours = runs
  actual = np.asarray(ours[run][2][name], np.float64).transpose(0, 3, 1, 2)
  assert actual.shape == tuple(arrays[f"{run}/{name}_shape"])
  expected = arrays[f"{run}/{name}_mean_std_absmax"]
  moments = np.array([actual.mean(), actual.std(), np.abs(actual).max()])
  np.testing.assert_allclose(moments, expected, atol=TOLERANCE[run] * expected[2])
  np.testing.assert_allclose(
    actual[0, :4, :3, :3], arrays[f"{run}/{name}_corner"], atol=TOLERANCE[run] * expected[2]
  )


def test_running_buffers(runs):
  arrays, ours = runs
  stats = traverse_util.flatten_dict(ours["train"][1])
  names = torch_names.network_names(_network(arrays["logits_eval"].shape[1]))
  by_name = {name: np.asarray(stats[path]) for path, name in names.items() if path in stats}
  prefix = "train_running/"
  checked = [key for key in arrays if key.startswith(prefix)]
  assert checked
  for key in checked:
    # Relative to the largest channel: running means pass through zero.
    error = np.abs(by_name[key.removeprefix(prefix)] - arrays[key]).max()
    assert error < 1e-3 * np.abs(arrays[key]).max(), key
