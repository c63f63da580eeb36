"""MobileNetV2 against a plain numpy forward, and against the outputs of its ImageNet weights."""

import os
import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from data_prep.pretrained import convert
from semiseg_jax.models.backbones.mobilenet_v2 import MobileNetV2
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.torch.files import read_state_dict
from tests.golden_files import golden_tensor
from tests.models import numpy_reference

# Width of features.1 to .17; stride of their depthwise convolutions at output stride 32.
WIDTHS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
STRIDES = {2: 2, 4: 2, 7: 2, 14: 2}
# Output stride -> {feature: (stride, dilation)} where it differs, from torchvision's layout.
CHANGES = {
  32: {},
  16: {14: (1, 1), 15: (1, 2), 16: (1, 2), 17: (1, 2)},
  8: {7: (1, 1), **{i: (1, 2) for i in range(8, 15)}, **{i: (1, 4) for i in (15, 16, 17)}},
}


def _state_dict():
  """Golden tensors under torchvision's names and shapes, written out independently of ours."""
  shapes = {"features.0.0.weight": (32, 3, 3, 3)}
  norms, previous = {"features.0.1": 32}, 32
  for i, width in enumerate(WIDTHS, 1):
    inner, at = (6 * previous, 1) if i > 1 else (previous, 0)
    prefix = f"features.{i}.conv."
    if i > 1:
      shapes[f"{prefix}0.0.weight"], norms[f"{prefix}0.1"] = (inner, previous, 1, 1), inner
    shapes[f"{prefix}{at}.0.weight"], norms[f"{prefix}{at}.1"] = (inner, 1, 3, 3), inner
    shapes[f"{prefix}{at + 1}.weight"] = (width, inner, 1, 1)
    norms[f"{prefix}{at + 2}"] = previous = width
  for name, channels in norms.items():
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{name}.{leaf}"] = (channels,)
  return {name: golden_tensor(name, shape) for name, shape in shapes.items()}


def _numpy_forward(state, x, output_stride):
  """Returns the outputs of features.0 to .17."""

  def unit(x, conv, norm, clip=True, **kwargs):
    x = numpy_reference.conv2d(x, state[f"{conv}.weight"], **kwargs)
    stats = (state[f"{norm}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))
    x = numpy_reference.batch_norm(x, *stats)
    return np.clip(x, 0, 6) if clip else x

  x = unit(x, "features.0.0", "features.0.1", stride=2, padding=1)
  outputs = [x]
  for i in range(1, 18):
    prefix, at = f"features.{i}.conv.", int(i > 1)
    stride, dilation = CHANGES[output_stride].get(i, (STRIDES.get(i, 1), 1))
    y = unit(x, f"{prefix}0.0", f"{prefix}0.1") if i > 1 else x
    y = unit(
      y,
      f"{prefix}{at}.0",
      f"{prefix}{at}.1",
      stride=stride,
      dilation=dilation,
      padding=dilation,
      groups=y.shape[-1],
    )
    y = unit(y, f"{prefix}{at + 1}", f"{prefix}{at + 2}", clip=False)
    x = x + y if x.shape == y.shape else y
    outputs.append(x)
  return outputs


def _features(state, x, output_stride):
  """Returns our outputs of block 1 to 17, by number."""
  converted = convert(state, "mobilenet_v2")
  variables = traverse_util.unflatten_dict(converted.arrays, sep="/")
  run = jax.jit(
    lambda variables, x: MobileNetV2(output_stride).apply(
      variables,
      x,
      Mode("eval"),
      capture_intermediates=lambda m, _: len(m.path) == 1,
      mutable=["intermediates"],
    )
  )
  with jax.default_matmul_precision("highest"):
    features, captured = run(variables, x)
  blocks = {
    int(name.removeprefix("block")): out["__call__"][0]
    for name, out in captured["intermediates"].items()
    if name.startswith("block")
  }
  np.testing.assert_array_equal(features["low"], blocks[3])
  np.testing.assert_array_equal(features["high"], blocks[17])
  return blocks, converted.unused


def _assert_close(ours, expected, tolerance):
  assert ours.shape == expected.shape
  assert np.abs(ours - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_equals_a_numpy_forward(output_stride):
  state = _state_dict()
  x = np.random.default_rng(0).standard_normal((1, 34, 21, 3)).astype(np.float32)
  expected = _numpy_forward(state, x, output_stride)
  blocks, unused = _features(state, x, output_stride)
  assert not unused
  for i in range(1, 18):
    _assert_close(blocks[i], expected[i], 1e-4)


@pytest.mark.slow
def test_imagenet_weights():
  folder = os.environ.get("SEMISEG_WEIGHTS_DIR")
  if not folder or not (pathlib.Path(folder) / "mobilenet_v2_imagenet.check.npz").exists():
    pytest.skip("mobilenet_v2_imagenet is absent; set SEMISEG_WEIGHTS_DIR to a folder with it")
  state = read_state_dict(pathlib.Path(folder) / "mobilenet_v2_imagenet.npz")
  with np.load(pathlib.Path(folder) / "mobilenet_v2_imagenet.check.npz") as file:
    check = {name: array.transpose(0, 2, 3, 1) for name, array in file.items() if array.ndim == 4}
  blocks, unused = _features(state, check["x"], 32)
  assert {name.rsplit(".", 2)[0].split(".conv")[0][:11] for name in unused} == {"features.18"}
  for i in (1, 3, 6, 13, 17):
    _assert_close(blocks[i], check[f"features.{i}"], 1e-4)
