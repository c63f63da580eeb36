"""GCT's flaw detector against the golden file and numpy, run as a stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding, stacks
from semiseg_jax.models.critics.flaw_detector import FlawDetector
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, published_shapes, torch_shapes
from tests.models.numpy_reference import batch_norm, conv2d


@pytest.fixture(scope="module")
def runs():
  """Golden arrays, network, and (flaw, its enlargement, new statistics by name) per mode."""
  arrays = golden("gct_losses")
  small, (height, width) = np.moveaxis(arrays["fd_small"], 1, -1), arrays["fd_size"]
  x = small.repeat(8, 1).repeat(8, 2)[:, :height, :width]
  stack = stacks.whole("flaw", 1, Single(FlawDetector(), x.shape[-1]), sharding.make_mesh())
  assert torch_shapes(stack.network) == published_shapes("gct_losses")
  params, stats = jax.tree.map(lambda leaf: leaf[None], golden_params(stack.network))
  names = torch_names.network_names(stack.network)
  ours = {}
  for bn in ("eval", "train"):
    with jax.default_matmul_precision("highest"):
      outputs, moved = jax.jit(lambda p, s, bn=bn: stacks.apply(stack, p, s, {"x": x}, bn=bn))(
        params, stats
      )
    flaw = outputs["x"]["logits"][0]
    up = resize_bilinear(flaw, x.shape[1:3], stack.network.align_corners)
    by_name = {names[path]: leaf[0] for path, leaf in traverse_util.flatten_dict(moved).items()}
    ours[bn] = flaw, up[:, ::5, ::5], by_name
  return arrays, ours


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_flaw_maps(runs, bn):
  arrays, ours = runs
  for name, actual in zip((f"fd_{bn}_raw", f"fd_{bn}"), ours[bn][:2]):
    expected = np.moveaxis(arrays[name], 1, -1)
    assert actual.dtype == np.float32 and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3, err_msg=name)


def test_running_statistics_move_in_training(runs):
  arrays, ours = runs
  prefix = "fd_after_train_"
  checked = [key for key in arrays if key.startswith(prefix)]
  assert checked
  for key in checked:
    actual = ours["train"][2][key.removeprefix(prefix)]
    assert np.abs(actual - arrays[key]).max() < 1e-3 * np.abs(arrays[key]).max(), key


def _numpy(params, stats, x):
  """The detector in eval mode, in float64."""
  for layer in ("1", "2", "2_1", "3", "3_1", "4", "4_1"):
    p, stride = params[f"conv{layer}"], 1 if "_" in layer else 2
    x = conv2d(x, p["kernel"].transpose(3, 2, 0, 1), stride=stride, padding=1) + p["bias"]
    p, s = params[f"ibn{layer}"]["bnorm"], stats[f"ibn{layer}"]["bnorm"]
    first, rest = np.split(x, 2, -1)
    first = batch_norm(first, p["scale"], p["bias"], s["mean"], s["var"])
    rest = batch_norm(rest, 1, 0, rest.mean((1, 2), keepdims=True), rest.var((1, 2), keepdims=True))
    x = np.concatenate([first, rest], -1)
    x = np.where(x < 0, 0.2 * x, x)
  p = params["classifier"]
  return conv2d(x, p["kernel"].transpose(3, 2, 0, 1), stride=2, padding=1) + p["bias"]


def test_odd_sizes_equal_numpy():
  network = Single(FlawDetector(), 5)
  params, stats = network.init((1,))
  rng = np.random.default_rng(0)
  stats = jax.tree.map(lambda leaf: leaf + 0.3 * rng.random(leaf.shape, np.float32), stats)
  x = rng.random((1, 95, 77, 5), np.float32)
  flaw = jax.jit(network.decode, static_argnums=3)(params, stats, {"maps": x}, Mode("eval"))[0]
  expected = _numpy(params["module"], stats["module"], x)
  assert expected.shape == (1, 2, 1, 1)
  np.testing.assert_allclose(flaw["logits"], expected, rtol=1e-3, atol=1e-4)


def test_number_of_parameters_and_the_published_sizes():
  network = Single(FlawDetector(), 24)
  params, stats = network.shapes()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 8_294_017
  maps = {"maps": jnp.zeros((1, 321, 321, 24))}
  outputs, _ = jax.eval_shape(
    lambda p, s, maps: network.decode(p, s, maps, Mode("eval")), params, stats, maps
  )
  assert outputs["logits"].shape == (1, 9, 9, 1)


def test_bfloat16_is_for_all_but_the_classifier():
  network = Single(FlawDetector(), 6, jnp.bfloat16)
  run = lambda p, s, x: network.decode(p, s, {"maps": x}, network.mode("batch", (2,)))[0]
  program, found = jax.make_jaxpr(run, return_shape=True)(
    *network.shapes(), jnp.zeros((2, 64, 64, 6))
  )
  convolutions = [e for e in program.eqns if e.primitive.name == "conv_general_dilated"]
  dtypes = [str(e.outvars[0].aval.dtype) for e in convolutions]
  assert dtypes == ["bfloat16"] * 7 + ["float32"]
  assert found["logits"].dtype == jnp.float32
