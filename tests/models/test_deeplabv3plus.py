"""The head against a plain numpy forward written from the published description."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.models import deeplabv3plus, torch_names
from semiseg_jax.models.deeplabv3plus import DeepLabV3Plus
from semiseg_jax.models.layers import Mode
from tests.golden_files import golden_tensor
from tests.models import numpy_reference

CLASSES, WIDTH, RATES, LOW, DECODER = 3, 4, (1, 2, 3), 2, 5
HEAD = DeepLabV3Plus(
  num_classes=CLASSES,
  aspp_width=WIDTH,
  aspp_rates=RATES,
  low_width=LOW,
  decoder_width=DECODER,
  decoder_convs=2,
)


def _inputs():
  rng = np.random.default_rng(0)
  return {
    "low": rng.standard_normal((3, 9, 7, 6)).astype(np.float32),
    "high": rng.standard_normal((3, 5, 4, 8)).astype(np.float32),
  }


def _variables(features):
  """Golden tensors, and the same by state-dict name."""
  shapes = jax.eval_shape(lambda: HEAD.init(jax.random.key(0), features, Mode("eval")))
  flat = traverse_util.flatten_dict(
    jax.tree.map(lambda box: box.value, shapes, is_leaf=lambda x: hasattr(x, "initializer"))
  )
  state, tree = {}, {}
  for path, leaf in flat.items():
    name = torch_names.torch_name(deeplabv3plus.TORCH_NAMES, path[1:])
    state[name] = golden_tensor(name, torch_names.torch_shape(leaf.shape))
    tree[path] = torch_names.from_torch(state[name])
  return traverse_util.unflatten_dict(tree), state


def _stretch(x, size):
  """Bilinear resizing of [B,H,W,C] with aligned corners, one axis after the other."""
  for axis, target in ((1, size[0]), (2, size[1])):
    at = np.linspace(0, x.shape[axis] - 1, target)
    x = np.apply_along_axis(lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, x)
  return x


def _numpy_head(state, features, use_batch):
  def conv(x, name, **kwargs):
    return numpy_reference.conv2d(x, state[f"{name}.weight"], **kwargs)

  def norm(x, name):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if use_batch:
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return numpy_reference.batch_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], mean, var)

  relu = lambda x: np.maximum(x, 0)
  leaky = lambda x: np.where(x > 0, x, 0.01 * x)
  aspp = "head.aspp."
  high = features["high"].astype(np.float64)
  branches = [conv(high, f"{aspp}map_convs.0")]
  branches += [
    conv(high, f"{aspp}map_convs.{i}", dilation=rate, padding=rate)
    for i, rate in enumerate(RATES, 1)
  ]
  y = conv(leaky(norm(np.concatenate(branches, -1), f"{aspp}map_bn")), f"{aspp}red_conv")
  pool = conv(high.mean((1, 2), keepdims=True), f"{aspp}global_pooling_conv")
  pool = conv(leaky(norm(pool, f"{aspp}global_pooling_bn")), f"{aspp}pool_red_conv")
  y = leaky(norm(y + pool, f"{aspp}red_bn"))
  low = relu(norm(conv(features["low"], "head.reduce.0"), "head.reduce.1"))
  y = np.concatenate([_stretch(y, low.shape[1:3]), low], -1)
  for i in (0, 3):
    y = relu(norm(conv(y, f"head.last_conv.{i}", padding=1), f"head.last_conv.{i + 1}"))
  return conv(y, "classifier") + state["classifier.bias"]


@pytest.mark.parametrize("mode", [Mode("eval"), Mode("batch", (3,))])
def test_equals_a_numpy_forward(mode):
  features = _inputs()
  variables, state = _variables(features)
  logits = HEAD.apply(variables, jax.tree.map(jnp.asarray, features), mode)["logits"]
  expected = _numpy_head(state, features, use_batch=mode.bn == "batch")
  assert logits.shape == (3, 9, 7, CLASSES)
  assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_logits_are_to_be_resized_with_aligned_corners():
  assert HEAD.align_corners
