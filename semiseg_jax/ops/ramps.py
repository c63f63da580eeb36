"""Weights that rise to their full value over the first steps of a run."""

import jax
import jax.numpy as jnp

SHAPES = ("", "linear", "sigmoid", "cosine", "log", "exp")


def ramp(shape: str, t: jax.Array, steps: int) -> jax.Array:
  """Returns the share 0 .. 1 of a weight at step t; constant from `steps` on, 1 where that is 0.

  Args:
    shape: with x = t / steps: 'linear' x; 'sigmoid' exp(-5 (1 - x)^2), of mean teachers (Laine and
      Aila, 2017); 'cosine' (1 - cos(pi x)) / 2; of CCT 'exp' exp(5 (x - 1)) and 'log'
      1 - exp(-5 x), which ends at 0.9933.
    t: the step, counted from 0.
    steps: length of the rise.

  Raises:
    ValueError: another shape.
  """
  if not steps:
    return jnp.float32(1)
  x = jnp.clip(t / steps, 0, 1)
  if shape == "linear":
    return x
  if shape == "sigmoid":
    return jnp.exp(-5 * jnp.square(1 - x))
  if shape == "cosine":
    return (1 - jnp.cos(jnp.pi * x)) / 2
  if shape == "log":
    return 1 - jnp.exp(-5 * x)
  if shape == "exp":
    return jnp.exp(5 * (x - 1))
  raise ValueError(f"A ramp of shape {shape!r}: {', '.join(filter(None, SHAPES))}.")
