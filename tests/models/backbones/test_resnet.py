"""Strides, dilations, names and options of the ResNets, and their blocks in numpy."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.backbones.resnet import BasicBlock, Bottleneck
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import BACKBONES, HEADS, backbone_shapes, build_network
from semiseg_jax.models.torch import torch_names
from tests.model_config import model_config
from tests.models import numpy_reference

PLAIN = (1, 1)
# Blocks of each layer.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Options of the code bases (each page's network section): layer3 and layer4 of a ResNet-50.
KEPT = dict(multi_grid=(1, 1, 1), dilate_first=False)
PUBLISHED = {
  "TorchSemiSeg, CAC": (16, {}, [(2, 1)] + [PLAIN] * 5, [(1, 2), (1, 4), (1, 8)]),
  "UniMatch, ReCo": (16, KEPT, [(2, 1)] + [PLAIN] * 5, [(1, 1), (1, 2), (1, 2)]),
  "UniMatch at 8, CCT": (8, KEPT, [PLAIN] + [(1, 2)] * 5, [(1, 2), (1, 4), (1, 4)]),
  "U2PL": (
    8,
    dict(multi_grid=(2, 2, 4), dilate_first=False, ceil_pool=True),
    [PLAIN] + [(1, 2)] * 5,
    [(1, 4), (1, 8), (1, 16)],
  ),
  "AdvSemiSeg": (
    8,
    dict(multi_grid=(1, 1, 1), caffe_stride=True, ceil_pool=True),
    [(1, 2)] * 6,
    [(1, 4)] * 3,
  ),
  "classification": (32, {}, [(2, 1)] + [PLAIN] * 5, [(2, 1), PLAIN, PLAIN]),
}


def _convolutions(encoder):
  """(kernel, stride, dilation) of each convolution that is no matrix product, in order."""
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  run = functools.partial(encoder.init, jax.random.key(0), mode=Mode("eval"))
  found = []
  for equation in jax.make_jaxpr(run)(images).eqns:
    if equation.primitive.name == "conv_general_dilated":
      stride, dilation = equation.params["window_strides"], equation.params["rhs_dilation"]
      kernel = equation.invars[1].aval.shape[0]
      assert stride[0] == stride[1] and dilation[0] == dilation[1]
      assert equation.params["padding"] == ((dilation[0] * (kernel // 2),) * 2,) * 2
      found.append((kernel, stride[0], dilation[0]))
  return found


@pytest.mark.parametrize("code_base", PUBLISHED)
def test_strides_and_dilations_are_those_of_the_code_bases(code_base):
  output_stride, options, layer3, layer4 = PUBLISHED[code_base]
  layer2 = [(2, 1)] + [PLAIN] * 3
  if options.get("caffe_stride"):  # no 3x3 has a stride
    layer2 = [PLAIN] * 4
  encoder = BACKBONES["resnet50_v1s"](output_stride=output_stride, **options)
  found = _convolutions(encoder)
  assert found[:3] == [(3, 2, 1), (3, 1, 1), (3, 1, 1)]
  assert found[3:] == [(3, *pair) for pair in [PLAIN] * 3 + layer2 + layer3 + layer4]


def test_plain_stem_and_the_depth_of_101():
  assert _convolutions(BACKBONES["resnet101"]()) == [
    (7, 2, 1),
    *[(3, 1, 1)] * 3,
    (3, 2, 1),
    *[(3, 1, 1)] * 3,
    (3, 2, 1),
    *[(3, 1, 1)] * 22,
    *[(3, 1, dilation) for dilation in (2, 4, 8)],
  ]


def test_basic_blocks_dilate_both_convolutions():
  encoder = BACKBONES["resnet18"](output_stride=8, multi_grid=(1, 1), dilate_first=False)
  pairs = [*[PLAIN] * 4, (2, 1), *[PLAIN] * 3, PLAIN, *[(1, 2)] * 3, (1, 2), *[(1, 4)] * 3]
  assert _convolutions(encoder) == [(7, 2, 1), *[(3, *pair) for pair in pairs]]


def _published_state(size, stem):
  """Name -> shape of torchvision's ResNets without `fc`, written from the paper's table 1."""
  convolutions = {
    "plain": [("conv1", "bn1", 64, 7)],
    "v1s": [
      ("conv1.0", "conv1.1", 64, 3),
      ("conv1.3", "conv1.4", 64, 3),
      ("conv1.6", "bn1", 128, 3),
    ],
    "v1c": [("stem.0", "stem.1", 32, 3), ("stem.3", "stem.4", 32, 3), ("stem.6", "stem.7", 64, 3)],
  }[stem]
  state, channels = {}, 3

  def add(conv, bn, width, inputs, kernel):
    state[f"{conv}.weight"] = (width, inputs, kernel, kernel)
    for entry in ("weight", "bias", "running_mean", "running_var"):
      state[f"{bn}.{entry}"] = (width,)

  for conv, bn, width, kernel in convolutions:
    add(conv, bn, width, channels, kernel)
    channels = width
  for layer, depth in enumerate(DEPTHS[size], 1):
    width = 2 ** (layer + 5)
    units = [(width, 3), (width, 3)] if size < 50 else [(width, 1), (width, 3), (4 * width, 1)]
    for block in range(depth):
      prefix, inputs = f"layer{layer}.{block}", channels
      for i, (features, kernel) in enumerate(units, 1):
        add(f"{prefix}.conv{i}", f"{prefix}.bn{i}", features, inputs, kernel)
        inputs = features
      if block == 0 and (channels != inputs or layer > 1):
        add(f"{prefix}.downsample.0", f"{prefix}.downsample.1", inputs, channels, 1)
      channels = inputs
  return state


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.startswith("resnet")])
def test_state_dict_is_the_published_one(backbone):
  size, _, stem = backbone.removeprefix("resnet").partition("_")
  rules = torch_names.backbone_rules(backbone)
  ours = {}
  for tree in backbone_shapes(backbone, in_channels=3):
    for path, leaf in traverse_util.flatten_dict(tree).items():
      ours[torch_names.torch_name(rules, path)] = torch_names.torch_shape(leaf.shape)
  assert ours == _published_state(int(size), stem or "plain")


# torchvision's totals minus fc; the totals of the deep stem in the code of CPS and CAC.
COUNTS = {
  "resnet18": 11_689_512 - 513_000,
  "resnet34": 21_797_672 - 513_000,
  "resnet50": 25_557_032 - 2_049_000,
  "resnet101": 44_549_160 - 2_049_000,
  "resnet50_v1s": 23_631_808,
}


@pytest.mark.parametrize("backbone", COUNTS)
def test_number_of_parameters(backbone):
  params, _ = backbone_shapes(backbone, in_channels=3)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == COUNTS[backbone]


@pytest.mark.parametrize("height, width", [(65, 97), (49, 31)])
def test_sizes_are_rounded_up_for_odd_pictures(height, width):
  encoder = BACKBONES["resnet18"](output_stride=16)
  images = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
  run = functools.partial(encoder.init_with_output, jax.random.key(0), mode=Mode("eval"))
  features, _ = jax.eval_shape(run, images)
  for name, (stride, channels) in encoder.feature_info.items():
    assert features[name].shape == (1, -(-height // stride), -(-width // stride), channels)


@pytest.mark.slow
def test_caffe_pool_gives_one_row_more_on_even_maps():
  # advsemiseg.md 2: 321 -> 41, 505 -> 64, 65x97 -> 9x13; 63 has 32 rows before the pool, then 17.
  options = dict(multi_grid=(1, 1, 1), caffe_stride=True, ceil_pool=True, output_stride=8)
  encoder = BACKBONES["resnet50"](**options)
  run = functools.partial(encoder.init_with_output, jax.random.key(0), mode=Mode("eval"))
  for size, low, high in ((321, 81, 41), (505, 127, 64), (65, 17, 9), (97, 25, 13), (63, 17, 9)):
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    features, _ = jax.eval_shape(run, images)
    assert (features["low"].shape[1], features["high"].shape[1]) == (low, high)


@pytest.mark.parametrize(
  "backbone, options, message",
  [
    ("resnet50", dict(multi_grid=(1, 2)), r"multi_grid=\(1, 2\): one factor.* 3 blocks of layer4"),
    ("resnet18", dict(multi_grid=(2, 0, 4)), "1 or more, for each of the 2 blocks"),
    ("resnet34", dict(caffe_stride=True), "basic blocks of ResNet-18 and 34 have no 1x1"),
  ],
)
def test_impossible_options_are_refused(backbone, options, message):
  with pytest.raises(ConfigError, match=message):
    build_network(model_config(backbone, resnet=options), num_classes=5, in_channels=3)


def _numpy_block(block, variables, x, units):
  """`units`: (stride, dilation) of each convolution; eval mode."""

  def conv_norm(x, name, stride, dilation):
    conv, scale = variables["params"][name]["conv"], variables["params"][name]["bn"]
    running = variables["batch_stats"][name]["bn"]
    kernel = torch_names.to_torch(conv["kernel"])
    padding = dilation * (kernel.shape[2] // 2)
    y = numpy_reference.conv2d(x, kernel, stride=stride, dilation=dilation, padding=padding)
    return numpy_reference.batch_norm(
      y, scale["scale"], scale["bias"], running["mean"], running["var"]
    )

  y = x
  for i, (stride, dilation) in enumerate(units, 1):
    y = conv_norm(np.maximum(y, 0) if i > 1 else y, f"unit{i}", stride, dilation)
  if "downsample" in variables["params"]:
    x = conv_norm(x, "downsample", block.stride, 1)
  return np.maximum(x + y, 0)


BLOCKS = {
  "stride on the 3x3": (Bottleneck(4, 2, 1, False), 6, [(1, 1), (2, 1), (1, 1)]),
  "stride on the 1x1": (Bottleneck(4, 2, 1, True), 6, [(2, 1), (1, 1), (1, 1)]),
  "dilated, shortcut as it is": (Bottleneck(4, 1, 2, False), 16, [(1, 1), (1, 2), (1, 1)]),
  "dilated, wider": (Bottleneck(4, 1, 4, True), 8, [(1, 1), (1, 4), (1, 1)]),
  "basic": (BasicBlock(8, 2, 1, 1), 6, [(2, 1), (1, 1)]),
  "basic, dilated": (BasicBlock(8, 1, 1, 2), 6, [(1, 1), (1, 2)]),
  "basic, shortcut as it is": (BasicBlock(6, 1, 2, 2), 6, [(1, 2), (1, 2)]),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("height", [6, 7])
def test_a_block_equals_a_numpy_forward(name, height):
  block, channels, units = BLOCKS[name]
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, height, 5, channels)).astype(np.float32)
  shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, Mode("eval")))
  draw = lambda leaf: (0.1 + 0.4 * rng.random(leaf.shape)).astype(np.float32)
  variables = jax.tree.map(draw, nn.meta.unbox(shapes))
  variables["params"] = jax.tree.map(lambda leaf: leaf - np.float32(0.3), variables["params"])
  expected = _numpy_block(block, variables, x.astype(np.float64), units)
  assert 0.1 < (expected > 0).mean() < 0.999
  ours = block.apply(variables, x, Mode("eval"))
  assert ours.shape == expected.shape
  assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18_v1c", "resnet34", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 32])
def test_goes_with_every_head_that_can_use_it(backbone, output_stride):
  gives = set(BACKBONES[backbone]().feature_info)
  heads = [name for name, head in HEADS.items() if set(head.needs) <= gives]
  assert "deeplabv3plus" in heads
  for head in heads:
    config = model_config(backbone, head, output_stride=output_stride)
    network = build_network(config, num_classes=5, in_channels=3)
    params, stats = network.shapes()
    images = jax.ShapeDtypeStruct((2, 65, 97, 3), np.float32)

    def call(params, stats, images, network=network):
      mode = network.mode("train", (2,))
      features, stats = network.encode(params, stats, images, mode)
      return network.decode(params, stats, features, mode)

    outputs, moved = jax.eval_shape(call, params, stats, images)
    assert outputs["logits"].shape[0] == 2 and outputs["logits"].shape[-1] == 5
    assert outputs["logits"].dtype == np.float32
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
