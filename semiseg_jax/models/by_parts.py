"""Convolutions for XLA on a CPU whose kernel gradient is the sum of those of parts of the batch.

Where maps are larger than a core's cache XLA on a CPU computes the gradient of a kernel two to four
times slower than for maps that fit.  A part is some images, or some rows of one image.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.models.depthwise import Geometry

PART = 2**19 - 1  # numbers of a map: the measured bound for a cache of 2 MB
MOST = 16  # parts of a batch: each is a convolution to compile


def pays(x: jax.Array, features: int) -> bool:
  """Whether the maps of a convolution of `x` [B,H,W,C] at stride 1 exceed one part."""
  if min(x.shape[-1], features) < 32:  # of a picture: not measured
    return False
  return x.size // x.shape[-1] * max(x.shape[-1], features) > PART


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
  """Returns [B,H',W',features] of `x` [B,H,W,C] and a kernel [kh,kw,C,features]."""
  # Inside of a shard_map the kernel then varies as the images do: devices sum its gradient once,
  # not part by part.
  return _convolve(x, kernel * jnp.ones_like(x, shape=()), geometry)


def _plain(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    (geometry.stride,) * 2,
    geometry.pads,
    rhs_dilation=(geometry.dilation,) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2,))


def _forward(
  x: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _plain(x, kernel, geometry), (x, kernel)


def _backward(
  geometry: Geometry, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = kept
  (of_x,) = jax.vjp(lambda x: _plain(x, kernel, geometry), x)[1](g)
  (above, below), sides = geometry.pads
  x = jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))
  inside = geometry._replace(pads=((0, 0), sides))
  reach = geometry.dilation * (kernel.shape[0] - 1) + 1

  def of_kernel(images: slice, rows: slice) -> jax.Array:
    first, last = rows.start * geometry.stride, (rows.stop - 1) * geometry.stride
    seen = x[images, first : last + reach]
    pull = jax.vjp(lambda kernel: _plain(seen, kernel, inside), kernel)[1]
    return pull(g[images, rows])[0]

  return of_x, sum(of_kernel(*part) for part in _parts(x, g))


def _parts(x: jax.Array, g: jax.Array) -> Iterator[tuple[slice, slice]]:
  """Images and rows of g of each part."""
  batch, height = g.shape[:2]
  image = max(x.size, g.size) // batch
  images = max(1, PART // image, -(-batch // MOST))
  blocks = 1 if images > 1 else min(-(-image // PART), max(1, MOST // batch), height)
  rows = -(-height // blocks)
  for b in range(0, batch, images):
    for r in range(0, height, rows):
      yield slice(b, min(b + images, batch)), slice(r, min(r + rows, height))


_convolve.defvjp(_forward, _backward)
