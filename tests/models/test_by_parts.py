import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from semiseg_jax import sharding
from semiseg_jax.models import by_parts
from semiseg_jax.models.depthwise import Geometry


def _plain(x, kernel, geometry):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (geometry.stride,) * 2,
    geometry.pads,
    rhs_dilation=(geometry.dilation,) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _gradients(convolve, x, kernel):
  def total(x, kernel):
    y = convolve(x, kernel)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))

  return jax.grad(total, (0, 1))(x, kernel)


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("copies, part", [(0, 100), (0, 500), (2, 70)])  # rows, images, rows
def test_its_gradients_are_those_of_the_convolution_in_float64(
  monkeypatch, stride, dilation, copies, part
):
  monkeypatch.setattr(by_parts, "PART", part)
  rng, geometry = np.random.default_rng(0), Geometry(stride, dilation, ((1, 1), (2, 0)))
  lead = (copies,) * bool(copies)
  x = rng.standard_normal((*lead, 3, 8, 7, 4))
  kernel = rng.standard_normal((*lead, 3, 3, 4, 5))
  with jax.enable_x64(True):
    ours = functools.partial(_gradients, lambda x, k: by_parts.convolve(x, k, geometry))
    plain = functools.partial(_gradients, lambda x, k: _plain(x, k, geometry))
    found = (jax.vmap(ours) if copies else ours)(x, kernel)
    expected = (jax.vmap(plain) if copies else plain)(x, kernel)
  for a, b in zip(found, expected):
    assert a.dtype == np.float64
    np.testing.assert_allclose(a, b, atol=1e-11)


def test_inside_of_a_shard_map_the_gradient_of_the_kernel_is_that_of_all_images():
  mesh, geometry = sharding.make_mesh(1), Geometry(1, 1, ((1, 1), (1, 1)))
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((2 * jax.device_count(), 5, 4, 3)), jnp.float32)
  kernel = jnp.asarray(rng.standard_normal((3, 3, 3, 2)), jnp.float32)
  inside = jax.shard_map(
    functools.partial(by_parts.convolve, geometry=geometry),
    mesh=mesh,
    in_specs=(P("data"), P()),
    out_specs=P("data"),
  )
  expected = _gradients(lambda x, k: _plain(x, k, geometry), x, kernel)
  for a, b in zip(_gradients(inside, x, kernel), expected):
    np.testing.assert_allclose(a, b, atol=1e-4)
