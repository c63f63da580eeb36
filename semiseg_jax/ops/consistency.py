"""Averaged teachers: their decay and update; distances of predictions to what teaches them.

Sources: Tarvainen and Valpola (NeurIPS 2017) with the warm-up and distances of PixelSSL (Ke et al.,
ECCV 2020); CutMix-Seg, MLMT and CCT where it is said.
"""

from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
# What a student is pulled to -> whether probabilities are compared, whether classes are averaged.
KINDS = {"prob_mse": (True, True), "prob_sse": (True, False), "logit_mse": (False, True)}


def ema_decay(step: jax.Array, limit: float) -> jax.Array:
  """Returns a(t) = min(1 - 1/(t+1), limit), float32: 0, 1/2, 2/3, ... for t = 0, 1, 2, ..."""
  t = jnp.asarray(step, jnp.float32)
  return jnp.minimum(1 - 1 / (t + 1), limit)


def ema(old: Tree, new: Tree, decay: jax.Array) -> Tree:
  """Returns decay * old + (1 - decay) * new, leaf by leaf."""
  return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)


def pixel_distance(student: jax.Array, teacher: jax.Array, kind: str) -> jax.Array:
  """Returns the squared distance per pixel [...] of logits [...,C].

  Args:
    student: logits; the gradient goes here.
    teacher: logits, taken as given.
    kind: 'prob_mse' of softmax probabilities, mean over classes; 'prob_sse', their sum
      (CutMix-Seg); 'logit_mse' of the logits themselves, mean over classes (PixelSSL).
  """
  probabilities, averaged = KINDS[kind]
  teacher = jax.lax.stop_gradient(teacher)
  if probabilities:
    student, teacher = (jax.nn.softmax(x, axis=-1) for x in (student, teacher))
  square = jnp.square(student - teacher)
  return square.mean(-1) if averaged else square.sum(-1)


def cosine_distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Returns 1 - cos of the angle between logits, [...] of [...,C]; 1 where one of them is 0.

  The consistency of MLMT (Mittal, Tatarchenko, Brox, TPAMI 2021).

  Args:
    student: logits; the gradient goes here.
    teacher: logits, taken as given.
  """
  unit = lambda x: x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-16))
  return 1 - (unit(student) * unit(jax.lax.stop_gradient(teacher))).sum(-1)


def soft_distance(logits: jax.Array, target: jax.Array, kind: str) -> jax.Array:
  """Returns the distance per pixel [...] of logits [...,C] to probabilities, mean over classes.

  With p = softmax(logits), q the target, M = (p + q) / 2 and KL(a, b) = a (log a - log b):

    'mse'          (p - q)^2
    'kl'           KL(q, p)
    'js'           (KL(p, M) + KL(q, M)) / 2
    'js_reversed'  (KL(M, p) + KL(M, q + 1e-5)) / 2, as in the code of CCT

  Args:
    logits: the gradient goes here.
    target: [...,C], taken as given.
    kind: see above.

  Raises:
    ValueError: another kind.
  """
  q = jax.lax.stop_gradient(target)
  log_p = jax.nn.log_softmax(logits)
  p = jnp.exp(log_p)
  M = (p + q) / 2
  entropy = lambda x: jax.scipy.special.xlogy(x, x)
  if kind == "mse":
    entries = jnp.square(jax.nn.softmax(logits) - q)
  elif kind == "kl":
    entries = entropy(q) - q * log_p
  elif kind == "js":
    entries = (p * log_p + entropy(q)) / 2 - entropy(M)
  elif kind == "js_reversed":
    entries = entropy(M) - M * (log_p + jnp.log(q + 1e-5)) / 2
  else:
    raise ValueError(f"A distance {kind!r}: 'mse', 'kl', 'js' or 'js_reversed'.")
  return entries.mean(-1)


def spread(total: jax.Array, squares: jax.Array, number: int) -> jax.Array:
  """Returns how far n predictions of a pixel are from each other, [...].

  That is their variance, summed over classes: the pairwise term of CCT.

  Args:
    total, squares: sum over the n of probabilities [...,C], and of their squares.
    number: n.
  """
  return (squares / number - jnp.square(total / number)).sum(-1)
