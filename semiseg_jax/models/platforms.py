"""For which devices a program is traced: the default ones of this process, or others.

An exported program runs elsewhere, so what it holds must not follow from where it was made.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
from jax import lax

HERE, ANY, ONNX, TPU = "", "any", "onnx", "tpu"
_target = contextvars.ContextVar("platforms of traced programs", default=HERE)


@contextlib.contextmanager
def traced_for(target: str) -> Iterator[None]:
  """Programs that are traced in the block are for ANY platform of jax, for ONNX, or for a TPU."""
  token = _target.set(target)
  try:
    yield
  finally:
    _target.reset(token)


def is_gpu() -> bool:
  """Whether what is traced runs on a GPU and nowhere else."""
  return not _target.get() and jax.default_backend() == "gpu"


def is_cpu() -> bool:
  """Whether what is traced runs on a CPU and nowhere else."""
  return not _target.get() and jax.default_backend() == "cpu"


def is_onnx() -> bool:
  """Whether what is traced becomes an ONNX graph."""
  return _target.get() == ONNX


def on_cpu_or_elsewhere(
  on_cpu: Callable[..., jax.Array], elsewhere: Callable[..., jax.Array], *operands: jax.Array
) -> jax.Array:
  """Returns what the one of two equal functions gives that is made for the platform.

  A program for any platform has both; where it runs decides.
  """
  if _target.get() == ANY:
    return lax.platform_dependent(*operands, cpu=on_cpu, default=elsewhere)
  return (on_cpu if is_cpu() else elsewhere)(*operands)
