import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.layers import (
  BatchNorm,
  Conv,
  Draws,
  Dropout,
  Mode,
  average_pool,
  leaky_relu,
  max_pool,
  relu6,
)
from tests.models import numpy_reference

EVAL = Mode("eval")


def _random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("height", [8, 9])  # "SAME" padding would be wrong at even sizes only
@pytest.mark.parametrize(
  "kernel, stride, dilation, padding, groups",
  [
    (1, 1, 1, 0, 1),
    (1, 2, 1, 0, 1),
    (3, 1, 1, 1, 1),
    (3, 2, 1, 1, 1),
    (3, 1, 2, 2, 1),
    (3, 1, 1, 1, 2),
    (3, 2, 1, 1, 4),
    (3, 1, 2, 2, 4),
    (4, 2, 1, 1, 1),
  ],
)
def test_conv_is_pytorchs(height, kernel, stride, dilation, padding, groups):
  x, weight = _random(2, height, 7, 4), _random(4, 4 // groups, kernel, kernel, seed=1)
  bias = _random(4, seed=2)
  conv = Conv(4, kernel, stride, dilation, padding, groups, bias=True)
  params = {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias}
  expected = bias + numpy_reference.conv2d(
    x, weight, stride=stride, dilation=dilation, padding=padding, groups=groups
  )
  np.testing.assert_allclose(conv.apply({"params": params}, x, EVAL), expected, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize(
  "kernel, stride, dilation, groups", [(3, 2, 1, 1), (5, 2, 1, 4), (3, 1, 2, 4), (1, 2, 1, 1)]
)
def test_same_padding_is_xlas(size, kernel, stride, dilation, groups):
  x, weight = _random(2, size, 7, 4), _random(kernel, kernel, 4 // groups, 4, seed=1)
  conv = Conv(4, kernel, stride, dilation, "same", groups)
  expected = jax.lax.conv_general_dilated(
    x,
    weight,
    (stride,) * 2,
    "SAME",
    rhs_dilation=(dilation,) * 2,
    feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  found = conv.apply({"params": {"kernel": weight}}, x, EVAL)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_depthwise_on_cpu_equals_xlas_grouped_convolution_with_its_gradients():
  x, kernel = _random(2, 9, 8, 6), _random(3, 3, 1, 6, seed=1)
  conv = Conv(6, 3, 2, 1, 1, groups=6)
  weights = jnp.asarray(_random(2, 5, 4, 6, seed=2))

  def ours(x, kernel):
    return jnp.sum(weights * conv.apply({"params": {"kernel": kernel}}, x, EVAL))

  def xla(x, kernel):
    return jnp.sum(
      weights
      * jax.lax.conv_general_dilated(
        x,
        kernel,
        (2, 2),
        [(1, 1), (1, 1)],
        feature_group_count=6,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
    )

  for a, b in zip(jax.grad(ours, (0, 1))(x, kernel), jax.grad(xla, (0, 1))(x, kernel)):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_max_pool_pads_with_minus_infinity_on_both_sides():
  x = -1 - np.abs(_random(1, 6, 5, 2))
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
  expected = np.array(
    [
      [padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(3)]
      for i in range(3)
    ]
  )
  np.testing.assert_array_equal(max_pool(jnp.asarray(x), 3, 2, 1)[0], expected)


def _covering_windows(size, window, stride, padding):
  """Starts of windows until the padded axis is covered; none starts behind the picture."""
  starts = [-padding]
  while starts[-1] + window < size + padding and starts[-1] + stride < size:
    starts.append(starts[-1] + stride)
  return starts


@pytest.mark.parametrize("window, stride, padding", [(3, 2, 1), (3, 2, 0), (2, 2, 1), (2, 3, 0)])
@pytest.mark.parametrize("size", [6, 7, 8])
def test_max_pool_rounds_sizes_up_in_ceil_mode(size, window, stride, padding):
  x = -1 - np.abs(_random(1, size, size + 1, 2))
  rows, columns = (_covering_windows(n, window, stride, padding) for n in (size, size + 1))
  expected = [
    [x[0, max(i, 0) : i + window, max(j, 0) : j + window].max((0, 1)) for j in columns]
    for i in rows
  ]
  ours = max_pool(jnp.asarray(x), window, stride, padding, ceil_mode=True)
  np.testing.assert_array_equal(ours[0], np.array(expected))


def test_average_pool_drops_what_is_left_over():
  x = _random(2, 5, 7, 3)
  expected = x[:, :4, :6].reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
  np.testing.assert_allclose(average_pool(jnp.asarray(x), 2), expected, atol=1e-6)


@pytest.mark.parametrize(
  "function, at, value, slope",
  [
    (relu6, -1.0, 0, 0),
    (relu6, 0.0, 0, 0),
    (relu6, 3.0, 3, 1),
    (relu6, 6.0, 6, 0),
    (relu6, 7.0, 6, 0),
    (leaky_relu, -2.0, -0.02, 0.01),
    (leaky_relu, 0.0, 0, 0.01),
    (leaky_relu, 2.0, 2, 1),
  ],
)
def test_activations_and_their_gradients_at_the_corners(function, at, value, slope):
  np.testing.assert_allclose(jax.value_and_grad(function)(at), (value, slope), rtol=1e-6)


@pytest.mark.parametrize("function", [relu6, leaky_relu])
def test_activations_let_nan_through(function):
  assert np.isnan(function(jnp.asarray(jnp.nan)))


def _bn_variables(channels):
  return {
    "params": {"scale": 1 + _random(channels, seed=1), "bias": _random(channels, seed=2)},
    "batch_stats": {"mean": _random(channels, seed=3), "var": 1 + _random(channels, seed=4) ** 2},
  }


def _bn_reference(x, variables, groups):
  """Separate calls, one per group: outputs and running statistics after all of them."""
  params, mean, var = variables["params"], *variables["batch_stats"].values()
  outputs, start = [], 0
  for size in groups:
    part = x[start : start + size].astype(np.float64)
    start += size
    outputs.append(
      numpy_reference.batch_norm(
        part, params["scale"], params["bias"], part.mean((0, 1, 2)), part.var((0, 1, 2))
      )
    )
    mean = 0.9 * mean + 0.1 * part.mean((0, 1, 2))
    var = 0.9 * var + 0.1 * part.var((0, 1, 2), ddof=1)
  return np.concatenate(outputs), mean, var


@pytest.mark.parametrize("groups", [(6,), (3, 3), (2, 2, 2), (1, 3, 2)])
def test_batch_norm_per_group_equals_separate_calls(groups):
  x = 3 + 2 * _random(6, 3, 2, 5) * np.arange(1, 7, dtype=np.float32)[:, None, None, None]
  variables = _bn_variables(5)
  y, moved = BatchNorm().apply(variables, x, Mode("train", groups), mutable=["batch_stats"])
  expected, mean, var = _bn_reference(x, variables, groups)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  np.testing.assert_allclose(moved["batch_stats"]["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(moved["batch_stats"]["var"], var, rtol=1e-5)
  same = BatchNorm().apply(variables, x, Mode("batch", groups))
  np.testing.assert_array_equal(same, y)


def test_running_statistics_carry_no_gradient():
  def moved(x):
    _, state = BatchNorm().apply(_bn_variables(2), x, Mode("train", (2,)), mutable=["batch_stats"])
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state))

  np.testing.assert_array_equal(jax.grad(moved)(_random(2, 3, 3, 2)), 0)


def test_batch_norm_eval_uses_running_statistics():
  x, variables = _random(2, 3, 3, 5), _bn_variables(5)
  expected = numpy_reference.batch_norm(
    x, *variables["params"].values(), *variables["batch_stats"].values()
  )
  np.testing.assert_allclose(BatchNorm().apply(variables, x, EVAL), expected, atol=1e-5)


def test_batch_norm_variance_survives_a_large_mean():
  x = 1e4 + _random(4, 8, 8, 1)
  variables = {
    "params": {"scale": np.ones(1, np.float32), "bias": np.zeros(1, np.float32)},
    "batch_stats": {"mean": np.zeros(1, np.float32), "var": np.ones(1, np.float32)},
  }
  y = BatchNorm().apply(variables, x, Mode("batch", (4,)))
  np.testing.assert_allclose(np.std(y), 1, atol=1e-3)


def test_bfloat16_activations_have_float32_statistics():
  x, variables = 100 + _random(4, 8, 8, 3), _bn_variables(3)
  rounded = jnp.asarray(x, jnp.bfloat16)
  y, moved = BatchNorm().apply(
    variables, rounded, Mode("train", (4,), dtype=jnp.bfloat16), mutable=["batch_stats"]
  )
  _, mean, var = _bn_reference(np.asarray(rounded, np.float32), variables, (4,))
  assert y.dtype == jnp.bfloat16 and moved["batch_stats"]["mean"].dtype == jnp.float32
  np.testing.assert_allclose(moved["batch_stats"]["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(moved["batch_stats"]["var"], var, rtol=1e-5)


@pytest.mark.parametrize("groups", [(), (2, 3), (4, 0), (5, -1)])
def test_groups_must_partition_the_batch(groups):
  with pytest.raises(ValueError, match="partition the local batch of 4"):
    BatchNorm().apply(_bn_variables(2), _random(4, 2, 2, 2), Mode("batch", groups))


def test_a_group_of_one_value_has_no_variance():
  with pytest.raises(ConfigError, match="one value per channel"):
    BatchNorm().apply(
      _bn_variables(2), _random(3, 1, 1, 2), Mode("train", (1, 2)), mutable=["batch_stats"]
    )


def test_unknown_mode_is_refused():
  with pytest.raises(ValueError, match="'test'.*train.*batch.*eval"):
    Mode("test")


def test_modes_are_hashable_and_compare_by_value():
  modes = [Mode(bn, groups) for bn, groups in itertools.product(("train", "eval"), ((2,), (1, 1)))]
  assert len({*modes, *modes}) == 4


def test_dropout_keeps_what_the_masks_say_and_scales_it():
  module = Dropout(0.25, name="drop")
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 5)), jnp.float32)
  keep = np.random.default_rng(1).random((2, 1, 1, 5)) < 0.75
  mode = Mode("eval", draws=Draws(masks={"": keep}))
  np.testing.assert_allclose(module.apply({}, x, mode), np.where(keep, x / 0.75, 0), rtol=1e-6)
  np.testing.assert_array_equal(module.apply({}, x, Mode("train", (2,))), x)


@pytest.mark.parametrize("whole_maps", [False, True])
def test_dropout_draws_per_image_from_its_key_alone(whole_maps):
  x = jnp.ones((3, 20, 20, 64))
  keys = jax.random.split(jax.random.key(0), 3)
  call = lambda x, keys: Dropout(0.25, whole_maps).apply({}, x, Mode("eval", draws=Draws(keys)))
  y = np.asarray(call(x, keys))
  np.testing.assert_array_equal(call(x[1:2], keys[1:2])[0], y[1])
  assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
  share = (y > 0).mean((1, 2, 3))
  assert len(set(share)) > 1
  np.testing.assert_allclose(share.mean(), 0.75, atol=0.1 if whole_maps else 0.01)
  assert (np.ptp(y, axis=(1, 2)) == 0).all() == whole_maps


def test_dropout_names_the_mask_that_is_missing():
  with pytest.raises(ValueError, match="no mask was given; there are .'other'."):
    Dropout(0.5).apply({}, jnp.ones((1, 1, 1, 1)), Mode("eval", draws=Draws(masks={"other": 1})))
