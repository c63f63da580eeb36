"""EfficientNet-Lite against a plain numpy forward, and against the outputs of its weights."""

import os
import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from data_prep.pretrained import convert
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.backbones.efficientnet_lite import BACKBONES, ROWS, EfficientNetLite, Unit
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.torch.files import read_state_dict
from tests.golden_files import golden_tensor
from tests.models import numpy_reference

# Of Lite0, block by block, written out independently of ours: kernel, stride, width.
KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
WIDTHS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
# Output stride -> {block: (stride, dilation)} where it differs.
CHANGES = {
  16: {11: (1, 1), **{i: (1, 2) for i in range(12, 16)}},
  8: {5: (1, 1), **{i: (1, 2) for i in range(6, 12)}, **{i: (1, 4) for i in range(12, 16)}},
}


def _state_dict():
  """Golden tensors under efficientnet_lite_pytorch's names and shapes."""
  shapes, norms, previous = {"_conv_stem.weight": (32, 3, 3, 3)}, {"_bn0": 32}, 32
  for i, (kernel, width) in enumerate(zip(KERNELS, WIDTHS)):
    inner, prefix = (6 * previous if i else previous), f"_blocks.{i}."
    if i:
      shapes[f"{prefix}_expand_conv.weight"] = (inner, previous, 1, 1)
      norms[f"{prefix}_bn0"] = inner
    shapes[f"{prefix}_depthwise_conv.weight"] = (inner, 1, kernel, kernel)
    shapes[f"{prefix}_project_conv.weight"] = (width, inner, 1, 1)
    norms |= {f"{prefix}_bn1": inner, f"{prefix}_bn2": width}
    previous = width
  for name, channels in norms.items():
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{name}.{leaf}"] = (channels,)
  return {name: golden_tensor(name, shape) for name, shape in shapes.items()}


def _same(size, kernel, stride, dilation):
  """TensorFlow's padding before and after."""
  span = (kernel - 1) * dilation + 1
  missing = max(((size + stride - 1) // stride - 1) * stride + span - size, 0)
  return missing // 2, missing - missing // 2


def _numpy_forward(state, x, output_stride):
  """Returns the outputs of all blocks."""

  def unit(x, conv, norm, clip=True, stride=1, dilation=1, groups=1):
    weight = state[f"{conv}.weight"]
    pads = [_same(size, weight.shape[2], stride, dilation) for size in x.shape[1:3]]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    x = numpy_reference.conv2d(x, weight, stride=stride, dilation=dilation, groups=groups)
    stats = (state[f"{norm}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))
    x = numpy_reference.batch_norm(x, *stats, epsilon=1e-3)
    return np.clip(x, 0, 6) if clip else x

  x, outputs = unit(x, "_conv_stem", "_bn0", stride=2), []
  for i in range(16):
    name = f"_blocks.{i}."
    stride, dilation = CHANGES[output_stride].get(i, (STRIDES.get(i, 1), 1))
    y = unit(x, f"{name}_expand_conv", f"{name}_bn0") if i else x
    depthwise = dict(stride=stride, dilation=dilation, groups=y.shape[-1])
    y = unit(y, f"{name}_depthwise_conv", f"{name}_bn1", **depthwise)
    y = unit(y, f"{name}_project_conv", f"{name}_bn2", clip=False)
    x = x + y if x.shape == y.shape else y
    outputs.append(x)
  return outputs


def _features(backbone, state, x, output_stride):
  """Returns our outputs of all blocks in order, and what was not used of `state`."""
  converted = convert(state, backbone)
  assert converted.match.naming == "efficientnet_lite_pytorch's"
  network = EfficientNetLite(ROWS[backbone], output_stride)
  names = [f"block{row}_{i}" for row, line in enumerate(ROWS[backbone]) for i in range(line[-1])]
  run = jax.jit(
    lambda variables, x: network.apply(
      variables,
      x,
      Mode("eval"),
      capture_intermediates=lambda m, _: len(m.path) == 1,
      mutable=["intermediates"],
    )
  )
  with jax.default_matmul_precision("highest"):
    features, captured = run(traverse_util.unflatten_dict(converted.arrays, sep="/"), x)
  blocks = [captured["intermediates"][name]["__call__"][0] for name in names]
  for name, (stride, width) in network.feature_info.items():
    expected = (-(-x.shape[1] // stride), -(-x.shape[2] // stride), width)
    assert features[name].shape[1:] == expected
  np.testing.assert_array_equal(features["high"], blocks[-1])
  low = sum(line[-1] for line in ROWS[backbone][:2]) - 1
  np.testing.assert_array_equal(features["low"], blocks[low])
  return blocks, converted.unused


def _assert_close(ours, expected, tolerance):
  assert ours.shape == expected.shape
  assert np.abs(ours - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", CHANGES)
def test_equals_a_numpy_forward(output_stride):
  state = _state_dict()
  x = np.random.default_rng(0).standard_normal((1, 34, 21, 3)).astype(np.float32)
  expected = _numpy_forward(state, x, output_stride)
  blocks, unused = _features("efficientnet_lite0", state, x, output_stride)
  assert not unused
  for ours, theirs in zip(blocks, expected, strict=True):
    _assert_close(ours, theirs, 1e-4)


def test_running_statistics_move_by_a_hundredth():
  x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
  unit = Unit(5)
  variables = jax.tree.map(
    lambda box: box.value,
    unit.init(jax.random.key(0), x, Mode("eval")),
    is_leaf=lambda leaf: hasattr(leaf, "initializer"),
  )
  kernel = np.random.default_rng(1).standard_normal((1, 1, 3, 5)).astype(np.float32)
  variables["params"]["conv"]["kernel"] = kernel
  _, moved = unit.apply(variables, x, Mode("train", (2,)), mutable=["batch_stats"])
  mean = (x @ kernel[0, 0]).mean((0, 1, 2))
  np.testing.assert_allclose(moved["batch_stats"]["bn"]["mean"], 0.01 * mean, rtol=1e-4)


def test_timms_own_has_pytorchs_padding_and_epsilon():
  """Both differ: the window of TensorFlow begins at the first pixel of an even picture."""
  x = np.random.default_rng(0).standard_normal((1, 6, 8, 3)).astype(np.float32)
  weight = golden_tensor("_conv_stem.weight", (5, 3, 3, 3))
  stats = dict(scale=np.ones(5), bias=np.zeros(5)), dict(mean=np.zeros(5), var=np.full(5, 1e-3))
  params = {"conv": {"kernel": weight.transpose(2, 3, 1, 0)}, "bn": stats[0]}
  for tf, pads, epsilon in ((False, (1, 1), 1e-5), (True, (0, 1), 1e-3)):
    unit = Unit(5, 3, 2, clip=False, tf=tf)
    found = unit.apply({"params": params, "batch_stats": {"bn": stats[1]}}, x, Mode("eval"))
    y = numpy_reference.conv2d(np.pad(x, ((0, 0), pads, pads, (0, 0))), weight, stride=2)
    _assert_close(np.asarray(found), y / np.sqrt(1e-3 + epsilon), 1e-5)
  assert not BACKBONES["efficientnet_lite0_timm"]().tf and BACKBONES["efficientnet_lite0"]().tf


def test_timms_own_takes_the_names_of_timm_alone():
  """Those of efficientnet_lite_pytorch are TensorFlow's weights."""
  with pytest.raises(WeightsError, match="lacks .* of efficientnet_lite0_timm"):
    convert(_state_dict(), "efficientnet_lite0_timm")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ROWS)
def test_imagenet_weights(backbone):
  folder = pathlib.Path(os.environ.get("SEMISEG_WEIGHTS_DIR", "."))
  if not (folder / f"{backbone}_imagenet.check.npz").exists():
    pytest.skip(f"{backbone}_imagenet is absent; set SEMISEG_WEIGHTS_DIR to a folder with it")
  state = read_state_dict(folder / f"{backbone}_imagenet.npz")
  with np.load(folder / f"{backbone}_imagenet.check.npz") as file:
    check = {name: array.transpose(0, 2, 3, 1) for name, array in file.items() if array.ndim == 4}
  blocks, unused = _features(backbone, state, check.pop("x"), 32)
  assert {name.partition(".")[0] for name in unused} == {"_conv_head", "_bn1", "_fc"}
  assert len(check) == 5
  for name, expected in check.items():
    _assert_close(blocks[int(name.removeprefix("blocks."))], expected, 1e-4)
