"""The OCR head in numpy, written from the equations, image by image and class by class."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.models.heads.ocr import OCR, attend
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.model_config import model_config
from tests.models import numpy_reference

CLASSES, CHANNELS, SIZE = 3, 5, (2, 4, 3)


@pytest.fixture(scope="module")
def case():
  """The head, its variables and a feature."""
  rng = np.random.default_rng(0)
  head = OCR(CLASSES, width=6, key_width=4, aux_width=7)
  x = rng.standard_normal((*SIZE, CHANNELS)).astype(np.float32)
  init = lambda x: head.init(jax.random.key(0), {"high": x}, Mode("eval"))
  boxes = jax.eval_shape(init, x)
  draw = lambda box: (rng.random(box.value.shape) - 0.4).astype(np.float32)
  variables = jax.tree.map(draw, boxes, is_leaf=lambda leaf: hasattr(leaf, "initializer"))
  variables["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.1, variables["batch_stats"])
  return head, variables, x


def _unit(variables, name, x):
  """Convolution with bias, BatchNorm, ReLU of `x` [...,C]."""
  params, stats = variables["params"][name], variables["batch_stats"][name]["bn"]
  kernel = params["conv"]["kernel"]
  y = numpy_reference.conv2d(x, kernel.transpose(3, 2, 0, 1), padding=kernel.shape[0] // 2)
  y = y + params["conv"]["bias"]
  bn = params["bn"]
  return np.maximum(
    numpy_reference.batch_norm(y, bn["scale"], bn["bias"], stats["mean"], stats["var"]), 0
  )


def _classify(variables, name, x):
  params = variables["params"][name]
  return x @ params["kernel"][0, 0].astype(np.float64) + params["bias"]


def _softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def _reference(variables, x, keep):
  batch, height, width = SIZE
  coarse = _classify(variables, "aux_classifier", _unit(variables, "aux_hidden", x))
  pixels = _unit(variables, "reduce", x)
  regions = np.zeros((batch, CLASSES, 1, pixels.shape[-1]))
  for b, k in np.ndindex(batch, CLASSES):
    weights = _softmax(coarse[b, :, :, k].ravel())
    regions[b, k, 0] = weights @ pixels[b].reshape(height * width, -1)
  query, key = pixels, regions
  for i in range(2):
    query = _unit(variables, f"pixel{i}", query)
    key = _unit(variables, f"object{i}", key)
  value = _unit(variables, "down", regions)
  context = np.zeros((*SIZE, value.shape[-1]))
  for b, i, j in np.ndindex(*SIZE):
    scores = [query[b, i, j] @ key[b, k, 0] / np.sqrt(key.shape[-1]) for k in range(CLASSES)]
    context[b, i, j] = sum(w * value[b, k, 0] for k, w in enumerate(_softmax(np.array(scores))))
  context = _unit(variables, "up", context)
  y = _unit(variables, "fuse", np.concatenate([context, pixels], -1))
  return _classify(variables, "classifier", y * keep / 0.95), coarse, y


def test_head_in_numpy_with_dropped_maps(case):
  head, variables, x = case
  keep = np.array([[1, 0, 1, 1, 1, 0], [1] * 6])[:, None, None]
  mode = Mode("eval", draws=Draws(masks={"dropout": keep}))
  outputs = head.apply(variables, {"high": x}, mode)
  logits, coarse, features = _reference(variables, x, keep)
  np.testing.assert_allclose(outputs["aux_logits"], coarse, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(outputs["features"], features, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-4)


def test_attention_is_scaled_and_over_the_regions():
  rng = np.random.default_rng(0)
  query = rng.standard_normal((*SIZE, 4)).astype(np.float32)
  key, value = rng.standard_normal((2, SIZE[0], CLASSES, 4)).astype(np.float32)
  expected = np.zeros_like(query)
  for b, i, j in np.ndindex(*SIZE):
    expected[b, i, j] = _softmax(key[b] @ query[b, i, j] / 2) @ value[b]
  np.testing.assert_allclose(attend(query, key, value), expected, atol=1e-5)


@pytest.mark.slow
def test_size_and_names_of_the_published_network():
  config = model_config("hrnet_w48", "ocr", projection={"kind": "convmlp", "width": 256})
  network = build_network(config, num_classes=19, in_channels=3)
  params, stats = network.shapes()
  assert round(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, 1) == 75.2
  names = torch_names.network_names(network)
  leaves = traverse_util.flatten_dict({"p": params, "s": stats})
  assert len(set(names.values())) == len(leaves)
  attention = "ocr_distri_head.object_context_block"
  assert {
    "aux_head.2.bias",
    "conv3x3.1.0.running_mean",
    f"{attention}.f_object.2.weight",
    f"{attention}.f_down.1.0.weight",
    "ocr_distri_head.conv_bn_dropout.0.bias",
    "cls_head.weight",
  } < set(names.values())
