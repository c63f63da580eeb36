import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from tests.model_config import model_config

# Parameters: performance.md's tiny network; the two published totals of the CPS code base.
COUNTS = {("tiny", 5): 115_013, ("resnet50_v1s", 21): 40_475_957, ("resnet101_v1s", 21): 59_468_085}


def _config(backbone="tiny", **changes):
  return model_config(backbone, **changes)


def _tiny(num_classes=5):
  return build_network(_config(), num_classes=num_classes, in_channels=3)


def _call(network, params, batch_stats, images, mode):
  features, batch_stats = network.encode(params, batch_stats, images, mode)
  outputs, batch_stats = network.decode(params, batch_stats, features, mode)
  return outputs["logits"], batch_stats


_jit_call = jax.jit(_call, static_argnums=(0, 4))


def _images(batch, height=32, width=32, seed=0):
  shape = (batch, height, width, 3)
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("backbone, num_classes", COUNTS)
def test_number_of_parameters(backbone, num_classes):
  network = build_network(_config(backbone), num_classes=num_classes, in_channels=3)
  params, _ = network.shapes()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == COUNTS[backbone, num_classes]


@pytest.mark.parametrize(
  "backbone, head, info",
  [
    ("tiny", "deeplabv3plus", (4, 24)),
    ("tiny", "pspnet", (8, 512)),
    ("tiny", "fcn", (8, 48)),
    ("dinov2_small", "dpt", (14 / 8, 64)),
  ],
)
def test_stride_and_channels_of_features(backbone, head, info):
  network = build_network(model_config(backbone, head), num_classes=3, in_channels=3)
  assert network.output_info("features") == info
  with pytest.raises(ConfigError, match="gives no 'embedding' .it gives .*features"):
    network.output_info("embedding")


def test_init_is_a_function_of_the_seed_words_and_the_path():
  network = _tiny()
  first, second = network.init((3, 0)), network.init((3, 0))
  jax.tree.map(np.testing.assert_array_equal, first, second)
  flat, other = (traverse_util.flatten_dict(network.init(seed)[0]) for seed in ((3, 0), (3, 1)))
  kernels = [path for path in flat if path[-1] == "kernel"]
  assert all((flat[path] != other[path]).all() for path in kernels)
  # Two kernels of one shape differ, and other classes leave the rest alone.
  aspp = flat["decoder", "aspp", "branch1", "kernel"], flat["decoder", "aspp", "branch2", "kernel"]
  assert (aspp[0] != aspp[1]).all()
  wider = traverse_util.flatten_dict(_tiny(num_classes=7).init((3, 0))[0])
  changed = {path for path in flat if not np.array_equal(flat[path], wider[path])}
  assert {path[:2] for path in changed} == {("decoder", "classifier")}


def test_initial_laws():
  params, batch_stats = build_network(_config("mobilenet_v2"), num_classes=10, in_channels=3).init(
    (0,)
  )
  for path, value in traverse_util.flatten_dict({"p": params, "s": batch_stats}).items():
    assert value.dtype == np.float32 and isinstance(value, np.ndarray)
    if path[-1] == "kernel" and value.size > 10_000:
      std = np.sqrt(2 / np.prod(value.shape[:3]))
      np.testing.assert_allclose((value.mean() / std, value.std() / std), (0, 1), atol=0.04)
      assert np.abs(value).max() > 3 * std  # not truncated
    elif path[-2:] == ("classifier", "bias"):
      assert 0 < np.abs(value).max() <= 1 / 16 and value.min() < 0 < value.max()
    elif path[-1] != "kernel":
      np.testing.assert_array_equal(value, 1 if path[-1] in ("scale", "var") else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
  "backbone, output_stride",
  [
    ("tiny", 8),
    ("tiny", 16),
    ("mobilenet_v2", 8),
    ("mobilenet_v2", 16),
    ("mobilenet_v2", 32),
    ("resnet18", 8),
    ("resnet50_v1s", 16),
    ("resnet50_v1s", 32),
  ],
)
def test_features_are_as_announced(backbone, output_stride):
  network = build_network(
    _config(backbone, output_stride=output_stride), num_classes=5, in_channels=4
  )
  params, batch_stats = network.shapes()
  call = functools.partial(network.encode, mode=Mode("eval"))
  features, _ = jax.eval_shape(call, params, batch_stats, jnp.zeros((1, 64, 96, 4)))
  assert network.feature_info["high"][0] == output_stride
  assert {
    name: (64 // x.shape[1], x.shape[3]) for name, x in features.items()
  } == network.feature_info
  assert all(96 // x.shape[2] == network.feature_info[name][0] for name, x in features.items())


@pytest.mark.slow
def test_joint_groups_equal_separate_calls_in_order():
  network = _tiny()
  variables = network.init((0,))
  images = _images(6)
  joint, moved = _jit_call(network, *variables, images, Mode("train", (2, 4)))
  first, stats = _jit_call(network, *variables, images[:2], Mode("train", (2,)))
  second, stats = _jit_call(network, variables[0], stats, images[2:], Mode("train", (4,)))
  np.testing.assert_allclose(joint, np.concatenate([first, second]), atol=1e-4)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), moved, stats)


@pytest.mark.parametrize("bn", ["batch", "eval"])
def test_statistics_stay_where_they_should(bn):
  network = _tiny()
  params, batch_stats = network.init((0,))
  _, returned = _call(network, params, batch_stats, _images(2), Mode(bn, (2,)))
  jax.tree.map(np.testing.assert_array_equal, returned, batch_stats)


def test_bfloat16_computes_in_bfloat16_and_returns_float32():
  network = build_network(_config(dtype="bfloat16"), num_classes=5, in_channels=3)
  variables, images = network.init((0,)), _images(4)
  mode = Mode("train", (4,), dtype=network.dtype)
  features, _ = jax.eval_shape(functools.partial(network.encode, mode=mode), *variables, images)
  assert {x.dtype for x in features.values()} == {jnp.dtype(jnp.bfloat16)}
  logits, moved = _jit_call(network, *variables, images, mode)
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(jnp.float32)}
  exact, _ = _jit_call(network, *variables, images, Mode("train", (4,)))
  assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_float64_inputs_are_computed_in_float64():
  network = _tiny()
  with jax.enable_x64(True):
    *variables, images = jax.tree.map(
      lambda x: jnp.asarray(x, jnp.float64), (*network.init((0,)), _images(4))
    )
    shape_of = jax.eval_shape(
      functools.partial(_call, network, mode=Mode("train", (4,))), *variables, images
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(shape_of)} == {jnp.dtype(jnp.float64)}
    dtypes = {
      str(v.aval.dtype)
      for e in jax.make_jaxpr(functools.partial(_call, network, mode=Mode("train", (4,))))(
        *variables, images
      ).eqns
      for v in e.outvars
    }
  assert "float32" not in dtypes and "bfloat16" not in dtypes


@pytest.mark.parametrize(
  "change, message",
  [
    (
      dict(backbone="vgg"),
      "model.backbone is 'vgg'; possible: .*resnet101_v1s.*, mobilenet_v2",
    ),
    (dict(head="unet"), "model.head is 'unet'; possible: .*deeplabv3plus"),
    (dict(output_stride=4), "model.output_stride of tiny is 4; possible: 8, 16"),
    (dict(dtype="float16"), "model.dtype is 'float16'; possible: float32, bfloat16"),
    (
      dict(backbone="dinov2_small", head="dpt", dpt={"level_widths": (4, 4, 4)}),
      r"model.dpt.level_widths=\(4, 4, 4\): .* 4 levels",
    ),
    (dict(head="pspnet", pspnet={"bins": (1, 0)}), r"model.pspnet.bins=\(1, 0\): 1 cell or more"),
    (dict(head="pspnet", pspnet={"doublings": -1}), "model.pspnet.doublings=-1: 0 or more"),
  ],
)
def test_impossible_configurations_name_the_possible_ones(change, message):
  with pytest.raises(ConfigError, match=message):
    build_network(_config(**change), num_classes=5, in_channels=3)


def test_images_of_other_channels_are_refused():
  network = _tiny()
  with pytest.raises(ValueError, match=r"\(1, 8, 8, 4\); expected \[B,H,W,3\]"):
    network.encode(*network.shapes(), np.zeros((1, 8, 8, 4), np.float32), Mode("eval"))
