"""Flaw maps of GCT (Ke et al., ECCV 2020, section 3): where predictions are wrong, who learns.

The constants and the order are those of PixelSSL.  Every map is scaled on its own, so that pictures
of one batch never mix.  The sizes of the blurs follow a side `side`: that of the crop.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.adversarial import one_hot_map

FLAWLESS = 0.1  # a map whose blurred values are all at most this says that nothing is wrong


def odd_size(side: int, share: int) -> int:
  """Returns the size of a blur: the whole part of side / share, made odd upwards."""
  size = side // share
  return size + 1 - size % 2


def blur_kernel(size: int) -> np.ndarray:
  """Returns float64 [size], sum 1; the kernel of a blur is its outer product with itself.

  A Gaussian of sigma 0.3 ((size - 1) / 2 - 1) + 0.8, cut off at int(4 sigma + 0.5); what lies
  beyond the kernel is folded back at edges that are repeated.

  Args:
    size: odd, pixels.
  """
  sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
  reach = int(4 * sigma + 0.5)
  offset = np.arange(-reach, reach + 1)
  weight = np.exp(-0.5 * np.square(offset / sigma))
  source = (np.arange(size)[:, None] + offset) % (2 * size)
  source = np.minimum(source, 2 * size - 1 - source)
  return np.where(source == size // 2, weight / weight.sum(), 0).sum(1)


def blur_matrix(length: int, size: int) -> np.ndarray:
  """Returns the float64 matrix [length, length] that blurs one axis; its edges are not repeated.

  Raises:
    ValueError: an axis so short that a kernel of `size` reaches over both its edges.
  """
  half = size // 2
  if half >= length:
    raise ValueError(f"A blur of {size} pixels needs more than {half} pixels; there are {length}.")
  period = max(2 * (length - 1), 1)
  source = (np.arange(length)[:, None] + np.arange(-half, half + 1)) % period
  source = np.minimum(source, period - source)
  matrix = np.zeros((length, length))
  np.add.at(matrix, (np.arange(length)[:, None], source), blur_kernel(size))
  return matrix


def blur(maps: jax.Array, size: int) -> jax.Array:
  """Blurs maps [...,H,W] with `blur_kernel`: two matrix products."""
  height, width = maps.shape[-2:]
  rows, columns = (jnp.asarray(blur_matrix(n, size), maps.dtype) for n in (height, width))
  maps = jnp.einsum("oh,...hw->...ow", rows, maps, precision=lax.Precision.HIGHEST)
  return jnp.einsum("pw,...hw->...hp", columns, maps, precision=lax.Precision.HIGHEST)


def flaw_target(
  p: jax.Array,
  y: jax.Array,
  *,
  side: int,
  mu: float,
  nu: int,
  ignored_flawed: bool,
) -> jax.Array:
  """Returns what a flaw detector is to predict, [N,B,H,W] from 0 to 1, no gradient.

  C(f), f = mu sum_c |y_c - p_c|: blurred, nu times dilated and blurred again, scaled to [0, 1].

  Args:
    p: probabilities [N,B,H,W,C].
    y: labels [B,H,W].
    side: pixels; the blurs are side / 8 and side / 4 large.
    mu: of the difference; 1/2 gives 1 - p_y.
    nu: how often flaws are spread.
    ignored_flawed: ignored pixels have the flaw mu (as published), otherwise none.
  """
  p = lax.stop_gradient(p)
  f = mu * jnp.abs(one_hot_map(y, p.shape[-1], p.dtype)[None] - p).sum(-1)
  if not ignored_flawed:
    f = jnp.where(y[None] == IGNORE, 0, f)
  f = blur(f, odd_size(side, 8))
  for _ in range(nu):
    f = blur(_dilated(f), odd_size(side, 4))
  low, high = _range(f)
  return (f - low) / (high - low + 1e-9)


def handled(F: jax.Array, *, side: int, negative_flawless: bool) -> jax.Array:
  """Returns predicted flaw maps [N,B,H,W] as they are compared: from 0 to 1, no gradient.

  Negative values are 0; blurred by side / 16; all 0 where the largest is at most FLAWLESS;
  otherwise scaled to [0, 1].

  Args:
    F: flaw maps [N,B,H,W], free numbers.
    side: pixels.
    negative_flawless: where a flawless map has no 0, it becomes -min / (max - min), as published:
      a number below 0, so that its network counts as the better one.
  """
  f = blur(jnp.maximum(lax.stop_gradient(F), 0), odd_size(side, 16))
  low, high = _range(f)
  flawless = high <= FLAWLESS
  if negative_flawless:
    return (jnp.where(flawless, 0, f) - low) / (high - low + 1e-9)
  return jnp.where(flawless, 0, (f - low) / (high - low + 1e-9))


def exchange(h: jax.Array, xi: float, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Compares handled flaw maps [2,B,H,W]: returns who learns, bool [2,B,H,W], and both bad [B,H,W].

  The network with the larger flaw learns from the other.  Flaws above xi are equal to each other,
  and nobody learns from an equal.  Both are false outside of `inside`, bool [B,H,W].
  """
  bad = h > xi
  h = jnp.where(bad, 1, h)
  return (h > h[::-1]) & inside[None], bad.all(0) & inside


def disagreement(p: jax.Array, learns: jax.Array) -> jax.Array:
  """Returns mean_c (p_k - p_j)^2 [2,B,H,W] of p [2,B,H,W,C] where k learns from j, 0 elsewhere.

  p_j has no gradient.  Where k keeps its own prediction as target, both are 0.
  """
  square = jnp.square(p - lax.stop_gradient(p[::-1])).mean(-1)
  return jnp.where(learns, square, 0)


def correction(F: jax.Array, both_bad: jax.Array) -> jax.Array:
  """Returns F^2 [2,B,H,W] of F [2,B,H,W] where both are bad [B,H,W], 0 elsewhere."""
  return jnp.where(both_bad[None], jnp.square(F), 0)


def clamped(F: jax.Array) -> jax.Array:
  """Returns max(F, 0) with the gradient of F: what writing into F before the loss comes to."""
  return F + lax.stop_gradient(jnp.maximum(F, 0) - F)


def _dilated(f: jax.Array) -> jax.Array:
  """The largest of 3x3 pixels; mirrored edges add none that is not among them."""
  window = (1,) * (f.ndim - 2) + (3, 3)
  return lax.reduce_window(f, -jnp.inf, lax.max, window, (1,) * f.ndim, "SAME")


def _range(f: jax.Array) -> tuple[jax.Array, jax.Array]:
  return f.min((-2, -1), keepdims=True), f.max((-2, -1), keepdims=True)
