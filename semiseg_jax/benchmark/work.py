"""The arithmetic of a traced step, and what this device can do of it at best."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.benchmark.program import PICTURE, PRODUCTS, Program

_SIDE = {"cpu": 1536}  # of the matrices; elsewhere
_LARGE = 8192


def flops(traced: Any) -> tuple[int, int]:
  """Returns FLOPs of a traced function: of convolutions and products, and of those that resize.

  2 per multiply-add, on padding as well; products with a constant matrix resize.  What
  rematerialization computes again is a part of them.

  Args:
    traced: of `jax.jit(...).trace(...)`.
  """
  jaxpr = traced.jaxpr.jaxpr
  operations = Program(jaxpr, [PICTURE] * len(jaxpr.invars)).operations
  counted = [
    (o.by_constant, PRODUCTS[o.primitive](o)) for o in operations if o.primitive in PRODUCTS
  ]
  return tuple(
    sum(n for constant, n in counted if constant == resizes) for resizes in (False, True)
  )


def ceiling(dtype: str, rounds: int = 5) -> float:
  """Returns the FLOP/s of a large square matrix product on one device, the median of `rounds`."""
  side = _SIDE.get(jax.default_backend(), _LARGE)
  x = jnp.ones((side, side), dtype)
  product = jax.jit(lambda x: lax.dot(x, x))
  jax.block_until_ready(product(x))
  seconds = []
  for _ in range(rounds):
    began = time.perf_counter()
    jax.block_until_ready(product(x))
    seconds.append(time.perf_counter() - began)
  return 2 * side**3 / statistics.median(seconds)


def describe(counted: tuple[int, int], seconds: float, best: float) -> str:
  """Returns one line: FLOPs of a step, FLOP/s, their share of the device's best.

  Args:
    counted: what `flops` gives.
    seconds: of a step.
    best: FLOP/s that a matrix product reaches.
  """
  model, resizing = counted
  return (
    f"model {model / 1e9:.1f} GFLOP per step (and {resizing / 1e9:.1f} of resizing): "
    f"{model / seconds / 1e9:.1f} GFLOP/s, {100 * model / seconds / best:.1f} % of the "
    f"{best / 1e9:.0f} that a large matrix product reaches here"
  )
