"""The head of a classifier of pictures in numpy, and in a network."""

import jax
import numpy as np

from semiseg_jax.models.heads.classifier import Classifier
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.model_config import model_config


def test_head_in_numpy():
  rng = np.random.default_rng(0)
  kernel, bias = rng.normal(size=(4, 3)).astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)
  x = rng.normal(size=(2, 5, 6, 4)).astype(np.float32)
  variables = {"params": {"classifier": {"kernel": kernel, "bias": bias}}}
  outputs = Classifier(3).apply(variables, {"high": x}, Mode("eval"))
  assert outputs["logits"].shape == (2, 1, 1, 3)
  pooled = x.sum((1, 2)) / 30
  np.testing.assert_allclose(outputs["features"][:, 0, 0], pooled, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    outputs["logits"][:, 0, 0], pooled @ kernel + bias, rtol=1e-5, atol=1e-6
  )


def test_networks_have_torchvisions_names_and_numbers():
  network = build_network(
    model_config("resnet101", "classifier", output_stride=32), num_classes=21, in_channels=3
  )
  assert network.labels_pictures
  params, _ = network.shapes()
  # 42,500,160 of torchvision's encoder, and a linear layer of 2048 channels.
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 42_500_160 + 2049 * 21
  names = set(torch_names.network_names(network).values())
  assert {"conv1.weight", "layer4.2.bn3.running_var", "fc.weight", "fc.bias"} <= names
  other = build_network(model_config("tiny", "fcn"), num_classes=5, in_channels=3)
  assert not other.labels_pictures
