"""Initializers that are declared per parameter and drawn by numpy.

A module declares a parameter by returning a `Declared` box (shape, dtype, law) from its init
function.  `jax.eval_shape` of the init then lists every parameter with its law without compiling
anything, and `draw` fills the tree on the host.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from flax.core import meta


@dataclasses.dataclass(frozen=True)
class Initializer:
  """The law of one parameter: `kind` is 'constant', 'normal' (std) or 'uniform' (half width).

  With `repeat` r, every r neighbors on the last axis are equal.
  """

  kind: str
  scale: float
  repeat: int = 1

  def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a float32 array of `shape`."""
    if self.repeat > 1:
      drawn = (*shape[:-1], shape[-1] // self.repeat)
      once = dataclasses.replace(self, repeat=1).sample(rng, drawn)
      return np.repeat(once, self.repeat, -1)
    if self.kind == "constant":
      return np.full(shape, self.scale, np.float32)
    if self.kind == "normal":
      values = rng.standard_normal(shape, np.float32)
      values *= np.float32(self.scale)
      return values
    if self.kind == "uniform":
      return ((2 * rng.random(shape, np.float32) - 1) * self.scale).astype(np.float32)
    raise ValueError(f"Initializer.kind is {self.kind!r}; use 'constant', 'normal' or 'uniform'.")


def constant(value: float) -> Initializer:
  """Every number equal to `value`."""
  return Initializer("constant", value)


def kaiming_normal(fan_in: int) -> Initializer:
  """Normal(0, sqrt(2 / fan_in)), not truncated: PyTorch's kaiming_normal_ for a ReLU."""
  return Initializer("normal", math.sqrt(2 / fan_in))


def sub_pixel(fan_in: int) -> Initializer:
  """Kaiming normal, the same for the four channels that a pixel shuffle puts into one square.

  A doubling of the size then starts as nearest-neighbor resizing (Aitken et al. 2017, "ICNR").
  """
  return Initializer("normal", math.sqrt(2 / fan_in), repeat=4)


def torch_kernel(fan_in: int) -> Initializer:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for the kernel of a convolution."""
  return Initializer("uniform", 1 / math.sqrt(fan_in))


def torch_bias(fan_in: int) -> Initializer:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for the bias of a convolution."""
  return Initializer("uniform", 1 / math.sqrt(fan_in))


@flax.struct.dataclass
class Declared(meta.AxisMetadata):
  """A parameter together with its law; the law is static, so it survives `jax.eval_shape`."""

  value: Any
  initializer: Initializer = flax.struct.field(pytree_node=False)

  def unbox(self) -> Any:
    """Returns the parameter without its law."""
    return self.value

  def replace_boxed(self, val: Any) -> "Declared":
    """Returns another parameter of the same law."""
    return self.replace(value=val)

  def add_axis(self, index: int, params: dict[Any, Any]) -> "Declared":
    """Refused: a law knows the fan of one network's shape only."""
    raise NotImplementedError("Declared parameters are drawn per network; stack them afterwards.")

  remove_axis = add_axis


def declare(initializer: Initializer, shape: tuple[int, ...]) -> Callable[..., Declared]:
  """Returns a Flax init function whose values are drawn later, by `draw`."""
  return lambda *unused_key: Declared(jnp.zeros(shape, jnp.float32), initializer)


def draw(declared: Any, seed: Sequence[int], prefix: str) -> Any:
  """Draws a tree of `Declared` boxes.

  Each leaf has its own generator, seeded by (seed words, crc32 of 'prefix/path/of/leaf'), so a leaf
  keeps its values when other parameters are added, renamed or removed.

  Args:
    declared: nested dict of `Declared` over `jax.ShapeDtypeStruct`, from `jax.eval_shape`.
    seed: non-negative integers.
    prefix: put before every path.

  Returns:
    The same nested dict of float32 numpy arrays.
  """
  flat = traverse_util.flatten_dict(declared, sep="/")
  return traverse_util.unflatten_dict(
    {path: _draw_leaf(box, seed, f"{prefix}/{path}") for path, box in flat.items()}, sep="/"
  )


def _draw_leaf(box: Declared, seed: Sequence[int], path: str) -> np.ndarray:
  if not isinstance(box, Declared):
    raise TypeError(f"The parameter {path} was created without `declare`: it has no law.")
  rng = np.random.default_rng([*seed, zlib.crc32(path.encode())])
  return box.initializer.sample(rng, box.value.shape)


def shapes(declared: Any) -> Any:
  """Returns the nested dict of `jax.ShapeDtypeStruct` inside the boxes."""
  return jax.tree.map(
    lambda box: box.value, declared, is_leaf=lambda leaf: isinstance(leaf, Declared)
  )
