"""Depthwise convolutions for XLA on a CPU: sums of shifted products, image by image.

XLA on a CPU has no fast grouped convolution: it takes several times as long, its gradients as well.
Automatic gradients of the sums would keep a shifted copy of the picture for every tap of the
kernel, so they are written here and keep the picture and the kernel only.  Where there is a
gradient one image at a time is convolved, which stays in the cache.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Geometry(NamedTuple):
  """Strides, dilations and zeros (before, after), equal for rows and columns but for the zeros."""

  stride: int
  dilation: int
  pads: tuple[tuple[int, int], tuple[int, int]]


def depthwise(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
  """Returns [B,H',W',C]: each channel of `x` [B,H,W,C] with its own kernel of [kh,kw,1,C]."""
  # Inside of a shard_map the kernel then varies as the images do, and its gradient is summed.
  kernel = kernel * jnp.ones_like(x, shape=())
  return _depthwise(x, kernel, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
  return _sum_of_taps(x, kernel[:, :, 0], geometry)


def _forward(
  x: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  taps = kernel[:, :, 0]
  return lax.map(lambda image: _sum_of_taps(image[None], taps, geometry)[0], x), (x, kernel)


def _backward(
  geometry: Geometry, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = kept
  taps = kernel[:, :, 0]

  def of_one(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    image, g = pair
    return (
      _image_gradient(g, taps, image.shape, geometry),
      _kernel_gradient(image, g, taps.shape, geometry),
    )

  of_x, of_kernel = lax.map(of_one, (x, g))
  return of_x, of_kernel.sum(0)[:, :, None]


_depthwise.defvjp(_forward, _backward)


def _taken(tap: int, count: int, geometry: Geometry) -> slice:
  """What a tap sees of `count` outputs along an axis."""
  start = tap * geometry.dilation
  return slice(start, start + (count - 1) * geometry.stride + 1, geometry.stride)


def _sum_of_taps(x: jax.Array, taps: jax.Array, geometry: Geometry) -> jax.Array:
  """[B,H,W,C], [kh,kw,C] -> [B,H',W',C]."""
  x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
  height, width = (
    (size - geometry.dilation * (k - 1) - 1) // geometry.stride + 1
    for size, k in zip(x.shape[1:3], taps.shape[:2])
  )
  return sum(
    x[:, _taken(i, height, geometry), _taken(j, width, geometry)] * taps[i, j, None, None, None]
    for i, j in np.ndindex(*taps.shape[:2])
  )


def _image_gradient(
  g: jax.Array, taps: jax.Array, shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
  """[H',W',C], [kh,kw,C] -> [H,W,C]: the sum of taps of the spread gradient and flipped kernel."""
  pads = []
  for size, outputs, k, (before, _) in zip(shape, g.shape, taps.shape, geometry.pads):
    reach, spread = geometry.dilation * (k - 1), (outputs - 1) * geometry.stride + 1
    pads.append((reach - before, size + before - spread, geometry.stride - 1))
  spread = lax.pad(g, jnp.zeros((), g.dtype), (*pads, (0, 0, 0)))
  whole = Geometry(1, geometry.dilation, ((0, 0), (0, 0)))
  return _sum_of_taps(spread[None], taps[::-1, ::-1], whole)[0]


def _kernel_gradient(
  image: jax.Array, g: jax.Array, shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
  """[H,W,C], [H',W',C] -> [kh,kw,C].

  Row by row into one sum for each tap and column: a reduction over rows and columns at once is
  computed number by number.
  """
  image, (height, width, _) = jnp.pad(image, (*geometry.pads, (0, 0))), g.shape
  taps = list(np.ndindex(*shape[:2]))
  reach = geometry.dilation * (shape[0] - 1) + 1

  def products(row: int | jax.Array) -> list[jax.Array]:
    seen = lax.dynamic_slice_in_dim(image, row * geometry.stride, reach)
    of_row = lax.dynamic_index_in_dim(g, row, keepdims=False)
    columns = lambda i, j: seen[i * geometry.dilation, _taken(j, width, geometry)]
    return [columns(i, j) * of_row for i, j in taps]

  add = lambda row, sums: [a + b for a, b in zip(sums, products(row))]
  sums = lax.fori_loop(1, height, add, products(0))
  return jnp.stack([x.sum(0) for x in sums]).reshape(shape)
