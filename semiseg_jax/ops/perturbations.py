"""What CCT (Ouali, Hudelot, Tami, CVPR 2020, section 3.2) does to features h [B,h,w,C].

Five of the seven perturbations multiply h: by noise or by masks that say what is kept.  The
adversarial one adds a direction that an auxiliary decoder finds; the last, dropout of channels, is
in ops/channels.py.  The constants are those of the released code.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

EPSILON = 1e-8  # added to the length of a direction


def noise(u: jax.Array, reach: float) -> jax.Array:
  """F-Noise: returns the factor 1 + N of h, N in (-reach, reach), of uniform numbers `u`."""
  return 1 + reach * (2 * u - 1)


def less_active(h: jax.Array, share: jax.Array) -> jax.Array:
  """F-Drop: returns bool [B,h,w], where the mean over channels is below `share` of its maximum."""
  activity = h.astype(jnp.promote_types(h.dtype, jnp.float32)).mean(-1)
  return activity < share * activity.max((1, 2), keepdims=True)


def foreground(P: jax.Array, background: Sequence[int]) -> jax.Array:
  """Returns bool [B,H,W], where the argmax of logits [B,H,W,C] is none of the classes."""
  ids = P.argmax(-1)
  behind = jnp.zeros(ids.shape, bool)
  for k in background:
    behind |= ids == k
  return ~behind


def adversarial(
  decode: Callable[[jax.Array], jax.Array], h: jax.Array, u: jax.Array, *, xi: float, length: float
) -> jax.Array:
  """I-VAT: returns r [B,h,w,C] that changes a decoder's prediction of h + r most; no gradient.

  With p = softmax g(h) and d = (u - 1/2) / |u - 1/2|, r = length v / (|v| + 1e-8) where v is the
  gradient of KL(p, softmax g(h + xi d)) by d: summed over pixels and classes, divided by B.  Norms
  are those of a whole picture's maps.  With the published xi of 1e-6 |v| is far below 1e-8, so that
  r is almost 0; from 1e-3 on |r| = length.

  Args:
    decode: g, features [B,h,w,C] -> logits [B,H,W,K]; its parameters take no gradient here.
    h: features.
    u: [B,h,w,C], uniform in [0,1).
    xi: length of the first step.
    length: of r, the paper's epsilon.
  """
  h = jax.lax.stop_gradient(h.astype(jnp.promote_types(h.dtype, jnp.float32)))
  p = jax.nn.softmax(decode(h))

  def divergence(d: jax.Array) -> jax.Array:  # less the entropy of p, which has no gradient
    return -(p * jax.nn.log_softmax(decode(h + xi * d))).sum() / len(h)

  v = jax.grad(divergence)(_unit(u.astype(h.dtype) - 0.5))
  return jax.lax.stop_gradient(length * _unit(v))


def _unit(d: jax.Array) -> jax.Array:
  """Of every picture's maps [B,h,w,C]."""
  return d / (jnp.sqrt(jnp.square(d).sum((1, 2, 3), keepdims=True)) + EPSILON)
