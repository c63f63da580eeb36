"""A network of one module: a discriminator, a flaw detector, an auxiliary decoder."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax.models.layers import Mode
from semiseg_jax.models.parts import Parts, check_channels, declare

Tree = Any
_SIDE = 128  # of the dummy input that is used to infer the shapes of parameters


@dataclasses.dataclass(frozen=True)
class Single(Parts):
  """One module as a network of a stack; parameters and statistics are trees {'module': {...}}.

  Its streams are maps [B,H,W,C], e.g. pictures joined with probabilities.  It has no backbone:
  `encode` hands them on as the feature 'maps', and `decode` runs the module.

  Attributes:
    module: (maps, mode) -> outputs by name, [B,...] each.
    in_channels: C.
    dtype: of the activations.
    biased_variance: see `Mode`.
  """

  module: nn.Module
  in_channels: int
  dtype: Any = jnp.float32
  biased_variance: bool = False

  @property
  def name(self) -> str:
    """The kind of module, for logs and result files."""
    return type(self.module).__name__.lower()

  @property
  def align_corners(self) -> bool:
    """How the output maps are to be resized to the picture."""
    return self.module.align_corners

  def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size nearest to `size` that the module takes: any is taken."""
    return size

  @property
  def parts(self) -> dict[str, nn.Module]:
    """Name of each part of the parameters -> its module."""
    return {"module": self.module}

  def encode(
    self, params: Tree, batch_stats: Tree, maps: jax.Array, mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """Maps [B,H,W,C] -> ({'maps': the same}, batch_stats)."""
    check_channels(self.name, maps, self.in_channels)
    return {"maps": maps}, batch_stats

  def decode(
    self, params: Tree, batch_stats: Tree, features: dict[str, jax.Array], mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """{'maps': [B,H,W,C]} -> (outputs by name, batch_stats)."""
    return self._apply("module", params, batch_stats, features["maps"], mode)

  @functools.lru_cache(maxsize=8)  # noqa: B019  (a handful of networks per process)
  def _declared(self) -> dict[str, dict[str, Tree]]:
    maps = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, self.in_channels), jnp.float32)
    return {"module": declare(self.module, maps)[1]}
