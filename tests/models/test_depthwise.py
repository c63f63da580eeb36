import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from semiseg_jax import sharding
from semiseg_jax.models.depthwise import Geometry, depthwise


def _random(*shape, seed):
  return np.random.default_rng(seed).standard_normal(shape)


def _grouped(x, kernel, geometry):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (geometry.stride,) * 2,
    geometry.pads,
    rhs_dilation=(geometry.dilation,) * 2,
    feature_group_count=x.shape[-1],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _with_gradients(convolve, geometry, x, kernel):
  """Outputs and gradients of a weighted sum of them; the weights depend on the place."""

  def total(x, kernel):
    y = convolve(x, kernel, geometry)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape))), y

  (_, y), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(x, kernel)
  return y, *gradients


@pytest.mark.parametrize(
  "size, taps, stride, dilation, pads",
  [
    ((9, 8), 3, 1, 1, ((1, 1), (1, 1))),
    ((8, 11), 3, 2, 1, ((1, 1), (1, 1))),
    ((7, 8), 3, 1, 2, ((2, 2), (2, 2))),
    ((8, 7), 5, 2, 1, ((1, 2), (2, 2))),
    ((11, 9), 3, 3, 2, ((0, 1), (3, 0))),
    ((9, 9), 2, 2, 1, ((0, 0), (0, 0))),  # the last row and column are not seen
  ],
)
def test_it_is_the_grouped_convolution_with_its_gradients_in_float64(
  size, taps, stride, dilation, pads
):
  geometry = Geometry(stride, dilation, pads)
  x, kernel = _random(2, *size, 3, seed=0), _random(taps, taps, 1, 3, seed=1)
  with jax.enable_x64(True):
    found = _with_gradients(depthwise, geometry, x, kernel)
    expected = _with_gradients(_grouped, geometry, x, kernel)
  for a, b in zip(found, expected):
    assert a.dtype == np.float64
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_copies_under_vmap_and_rematerialization_have_gradients_of_their_own():
  geometry = Geometry(2, 1, ((1, 1), (1, 1)))
  x, kernels = _random(2, 2, 5, 6, 3, seed=0), _random(2, 3, 3, 1, 3, seed=1)
  again = jax.checkpoint(depthwise, static_argnums=2)
  with jax.enable_x64(True):
    found = jax.vmap(functools.partial(_with_gradients, again, geometry))(x, kernels)
    for k in range(2):
      for a, b in zip(found, _with_gradients(_grouped, geometry, x[k], kernels[k])):
        np.testing.assert_allclose(a[k], b, atol=1e-12)


def test_the_gradient_of_the_kernel_counts_the_images_of_a_shard_map_once():
  mesh, geometry = sharding.make_mesh(1), Geometry(1, 1, ((1, 1), (1, 1)))
  x, kernel = jnp.asarray(_random(2, 5, 4, 3, seed=0)), jnp.asarray(_random(3, 3, 1, 3, seed=1))
  inside = jax.shard_map(
    functools.partial(depthwise, geometry=geometry),
    mesh=mesh,
    in_specs=(P("data"), P()),
    out_specs=P("data"),
  )
  found = _with_gradients(lambda x, kernel, _: inside(x, kernel), geometry, x, kernel)
  for a, b in zip(found, _with_gradients(_grouped, geometry, x, kernel)):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_backward_pass_keeps_the_pictures_and_the_kernel_only():
  x, kernel = jnp.ones((2, 9, 8, 6)), jnp.ones((3, 3, 1, 6))
  kept = jax.eval_shape(
    lambda x, kernel: jax.vjp(
      lambda x, kernel: depthwise(x, kernel, Geometry(1, 1, ((1, 1), (1, 1)))), x, kernel
    )[1],
    x,
    kernel,
  )
  assert sum(leaf.size for leaf in jax.tree.leaves(kept)) <= x.size + 2 * kernel.size + 1
