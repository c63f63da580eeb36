"""Soft targets from two sources of logits, and learning from them (PseudoSeg, section 3.2)."""

import jax
import jax.numpy as jnp


def calibrated_fusion(
  d: jax.Array, a: jax.Array, *, share: float, temperature: float, groups: int
) -> jax.Array:
  """Returns the sharpened mean of two softmaxes [N,B,h,w,C], no gradient.

  Both logits are divided by ONE number, rms = sqrt(mean of all their squares + 1e-8);
  p = share softmax(d / rms) + (1 - share) softmax(a / rms), then p^(1/T) / sum_c p_c^(1/T).

  Args:
    d, a: logits [N,B,h,w,C].
    share: gamma, of d.
    temperature: T; below 1 sharpens.
    groups: into which the batch is cut; each has its rms.
  """
  d, a = jax.lax.stop_gradient((d, a))
  grouped = lambda x: jnp.square(x).reshape(len(x), groups, -1).mean(-1)
  rms = jnp.sqrt((grouped(d) + grouped(a)) / 2 + 1e-8)
  rms = jnp.repeat(rms, d.shape[1] // groups, axis=1)[..., None, None, None]
  parts = zip((share, 1 - share), (d, a))
  log_p = jnp.logaddexp(*(jnp.log(w) + jax.nn.log_softmax(x / rms) for w, x in parts))
  # Of logarithms, and the largest first: powers of a small T are all 0.
  return jax.nn.softmax((log_p - log_p.max(-1, keepdims=True)) / temperature)


def soft_cross_entropy_sums(
  P: jax.Array, target: jax.Array, v: jax.Array, groups: int
) -> tuple[jax.Array, jax.Array]:
  """Returns -sum_c target_c log softmax(P)_c summed over valid pixels, and their number, [N,G].

  Args:
    P: logits [N,B,h,w,C].
    target: probabilities [N,B,h,w,C].
    v: bool [B,h,w], valid pixels.
    groups: G, into which the batch is cut.
  """
  ce = -(target * jax.nn.log_softmax(P)).sum(-1)
  v = jnp.broadcast_to(v[None], ce.shape)
  grouped = lambda x: x.reshape(len(P), groups, -1).sum(-1)
  return grouped(jnp.where(v, ce, 0)), grouped(v)


def binary_cross_entropy(z: jax.Array, y: jax.Array, known: jax.Array, groups: int) -> jax.Array:
  """Returns the mean over known labels of a group, then over the groups, [N]; 0 where none is.

  Args:
    z: logits [N,B,K].
    y: labels [B,K], 0 or 1.
    known: bool [B,K].
    groups: into which the batch is cut.
  """
  grouped = lambda x: x.reshape(len(x), groups, -1).sum(-1)
  total = grouped(jnp.where(known[None], jax.nn.softplus(z) - y[None] * z, 0))
  return (total / jnp.maximum(grouped(known[None]), 1)).mean(-1)
