"""Averaged teachers: their decay and update, distances to the student."""

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
