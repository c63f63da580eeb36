"""DINOv2 with the DPT head against its golden file: positions, tokens, levels, logits, dropout."""

import functools
import json
import re

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from semiseg_jax.models.backbones.dinov2 import interpolate_positions
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.channels import complementary_masks
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, golden_path
from tests.model_config import model_config

pytestmark = pytest.mark.slow

NAME, TOLERANCE = "dinov2s_dpt", 1e-4


def _network(num_classes):
  return build_network(model_config("dinov2_small", "dpt"), num_classes=num_classes, in_channels=3)


@functools.partial(jax.jit, static_argnums=0)
def _run(network, params, x, masks):
  """Returns the tokens before the first block, the features and the outputs.

  masks [B,1,1,D] multiply every feature, as complementary dropout does.
  """
  caught, stats = {}, {"encoder": {}, "decoder": {}}

  def catch(call, args, kwargs, context):
    if context.module.path == ("block0",) and context.method_name == "__call__":
      caught["tokens"] = args[0]
    return call(*args, **kwargs)

  with nn.intercept_methods(catch):
    features, _ = network.encode(params, stats, x, Mode("eval"))
  dropped = {name: level * masks for name, level in features.items()}
  outputs, _ = network.decode(params, stats, dropped, Mode("eval"))
  return caught["tokens"], features, outputs


@pytest.fixture(scope="module")
def runs():
  """The golden arrays, the network, its parameters, and our runs by the name of their logits."""
  arrays = golden(NAME)
  network = _network(arrays["logits_low"].shape[1])
  params, _ = golden_params(network)
  x = arrays["x"].transpose(0, 2, 3, 1)
  ones = np.ones((len(x), 1, 1, network.encoder.width), np.float32)
  far = {**params, "encoder": {**params["encoder"]}}
  far["encoder"]["pos_embed"] = 500 * params["encoder"]["pos_embed"]
  with jax.default_matmul_precision("highest"):
    ours = {
      "logits_low": _run(network, params, x, ones),
      "logits_low_pos500": _run(network, far, x, ones),
      "logits_low_comp_drop": _run(network, params, x, _complementary_masks(arrays)),
    }
  return arrays, network, params, ours


def _complementary_masks(arrays):
  b = arrays["comp_binomial"] == 1
  whole = np.zeros(len(b), bool)
  whole[arrays["comp_randperm"][: len(b) // 2]] = True
  return np.concatenate(complementary_masks(b, whole))[:, None, None]


def _assert_close(ours, expected, tolerance=TOLERANCE):
  assert ours.shape == expected.shape and ours.dtype == np.float32
  assert np.abs(ours - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", ["logits_low", "logits_low_pos500", "logits_low_comp_drop"])
def test_logits(runs, name):
  arrays, _, _, ours = runs
  _assert_close(ours[name][2]["logits"], arrays[name].transpose(0, 2, 3, 1))


def test_logits_of_the_size_of_the_picture(runs):
  arrays, network, _, ours = runs
  low = ours["logits_low"][2]["logits"][:1]
  full = resize_bilinear(low, arrays["x"].shape[2:], network.align_corners)
  _assert_close(full, arrays["logits_n0"].transpose(0, 2, 3, 1))


def test_positions_are_interpolated_as_published(runs):
  arrays, _, params, _ = runs
  grid = tuple(side // 14 for side in arrays["x"].shape[2:])
  found = interpolate_positions(params["encoder"]["pos_embed"], grid)
  np.testing.assert_allclose(found, arrays["pos_embed_interp"], rtol=0, atol=1e-6)


def test_tokens_and_levels(runs):
  arrays, network, _, ours = runs
  tokens, features, _ = ours["logits_low"]
  _assert_close(tokens[:1], arrays["tokens_in_n0"])
  blocks = sorted(int(re.sub(r"\D", "", key[:-3])) for key in arrays if key.startswith("feat"))
  assert tuple(blocks) == network.encoder.levels
  for i, block in enumerate(blocks):
    expected = arrays[f"feat{block}_n0"]
    _assert_close(features[f"level{i}"][:1].reshape(expected.shape), expected)
  np.testing.assert_array_equal(features["high"], features["level3"])


def test_names_and_shapes_are_those_of_the_published_network():
  published = json.loads(golden_path(f"{NAME}.params.json").read_text())
  network = _network(published["head.scratch.output_conv.2.bias"][0])
  names = torch_names.network_names(network)
  leaves = traverse_util.flatten_dict(network.shapes()[0])
  ours = {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()}
  assert len(ours) == len(leaves)
  assert ours == {name: tuple(shape) for name, shape in published.items()}
