"""What every network is to a stack: named parts, their parameters, and calls of their modules."""

from typing import Any

import jax
from flax import linen as nn

from semiseg_jax.models import initializers, remat
from semiseg_jax.models.layers import Draws, Mode

Tree = Any


class Parts:
  """Base of the networks; a subclass is a frozen dataclass.

  It has `dtype` and `biased_variance` (see `Mode`), `parts`: name -> module, the pure functions
  `encode` and `decode`, (params, batch_stats, inputs, mode) -> (maps by name, batch_stats), and
  `_declared()`: name of the part -> {'params': tree, 'batch_stats': tree} of declared variables.
  `remat` says what the backward pass computes again (see models/remat.py).
  """

  remat: tuple[tuple[str, str], ...] = ()

  def mode(
    self,
    bn: str,
    groups: tuple[int, ...] = (),
    axes: tuple[str, ...] = (),
    draws: Draws | None = None,
    span: int = 0,
  ) -> Mode:
    """Returns the mode of a call of this network."""
    return Mode(bn, groups, axes, self.dtype, draws, self.biased_variance, span)

  def init(self, seed: tuple[int, ...]) -> tuple[Tree, Tree]:
    """Draws (params, batch_stats), float32 numpy trees, from the seed words (integers >= 0)."""
    drawn = {
      part: {kind: initializers.draw(tree, seed, part) for kind, tree in declared.items()}
      for part, declared in self._declared().items()
    }
    return _by_kind(drawn)

  def shapes(self) -> tuple[Tree, Tree]:
    """Returns (params, batch_stats) as trees of `jax.ShapeDtypeStruct`."""
    shapes = {
      part: {kind: initializers.shapes(tree) for kind, tree in declared.items()}
      for part, declared in self._declared().items()
    }
    return _by_kind(shapes)

  def _apply(self, part: str, params: Tree, batch_stats: Tree, inputs: Any, mode: Mode):
    variables = {"params": params[part], "batch_stats": batch_stats[part]}
    module = self.parts[part]
    with remat.applied(part, self.remat):
      if mode.bn != "train":
        return module.apply(variables, inputs, mode), batch_stats
      outputs, moved = module.apply(variables, inputs, mode, mutable=["batch_stats"])
    return outputs, {**batch_stats, part: moved.get("batch_stats", {})}


def check_channels(name: str, images: jax.Array, channels: int) -> None:
  """Raises ValueError unless `images` is [B,H,W,channels]."""
  if images.ndim != 4 or images.shape[-1] != channels:
    raise ValueError(f"{name}: images of shape {images.shape}; expected [B,H,W,{channels}].")


def declare(module: nn.Module, inputs: Any) -> tuple[Tree, Tree]:
  """Returns the abstract outputs and the declared variables of a module."""
  init = lambda x: module.init_with_output(jax.random.key(0), x, Mode("eval"))
  return jax.eval_shape(init, inputs)


def _by_kind(parts: dict[str, dict[str, Tree]]) -> tuple[Tree, Tree]:
  return tuple(
    {part: trees.get(kind, {}) for part, trees in parts.items()}
    for kind in ("params", "batch_stats")
  )
