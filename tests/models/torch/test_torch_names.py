import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.golden_files import golden_params, golden_path, golden_tensor
from tests.model_config import model_config


def _resnet50():
  return build_network(
    model_config(),
    num_classes=21,
    in_channels=3,
  )


def test_names_and_shapes_are_those_of_the_published_network():
  published = json.loads(golden_path("cps_trajectory.params.json").read_text())
  expected = {
    name.removeprefix("branch2."): tuple(shape)
    for name, shape in published.items()
    if name.startswith("branch2.") and not name.endswith("num_batches_tracked")
  }
  network = _resnet50()
  shapes = network.shapes()
  names = torch_names.network_names(network)
  leaves = {**traverse_util.flatten_dict(shapes[0]), **traverse_util.flatten_dict(shapes[1])}
  ours = {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()}
  assert len(ours) == len(leaves)
  assert ours == expected


def test_golden_params_have_the_networks_structure_and_the_files_weights():
  network = _resnet50()
  params, batch_stats = golden_params(network, "branch1.", damp_bn3=True)
  for tree, shapes in zip((params, batch_stats), network.shapes()):
    jax.tree.map(
      lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), tree, shapes
    )
  block = params["encoder"]["layer2_1"]
  weight = golden_tensor("branch1.backbone.layer2.1.conv2.weight", (128, 128, 3, 3))
  np.testing.assert_array_equal(block["unit2"]["conv"]["kernel"][2, 1, 5, 7], weight[7, 5, 2, 1])
  scale = golden_tensor("branch1.backbone.layer2.1.bn3.weight", (512,))
  np.testing.assert_array_equal(block["unit3"]["bn"]["scale"], scale * np.float32(0.1))
  np.testing.assert_array_equal(
    block["unit2"]["bn"]["scale"], golden_tensor("branch1.backbone.layer2.1.bn2.weight", (128,))
  )


def test_a_backbone_that_pytorch_lacks_is_refused():
  with pytest.raises(WeightsError, match="Tiny has no PyTorch counterpart; .*resnet50"):
    torch_names.backbone_rules("tiny")


def test_an_unknown_module_is_refused():
  with pytest.raises(WeightsError, match="layer1_0/gate/kernel"):
    rules = torch_names.backbone_rules("resnet50_v1s")
    torch_names.torch_name(rules, ("layer1_0", "gate", "kernel"))
