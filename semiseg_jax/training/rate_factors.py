"""The factor on the learning rate of each parameter, decided by its path.

A path is stack / part / unit / ... / leaf: 'networks/encoder/layer4_0/unit1/conv/kernel'.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.network import BACKBONES

Tree = Any
Layers = tuple[tuple[str, ...], ...]  # units of an encoder, from the input to the output

ENCODER = "encoder"


@dataclasses.dataclass(frozen=True)
class Factors:
  """What the factor of a leaf is made of; each is multiplied with the others.

  Attributes:
    head: of everything but the encoder.
    parts: beginning of the path without its stack -> factor in place of 1 or `head`; the longest
      beginning wins.
    layer_decay: d, and
    layers: stack -> the layers of its encoder.  Layer k, counted from the output, has d ** k: the
      last one d, the first of L layers d ** L; what is in no layer (the final normalization of a
      ViT) has 1, as the head.  DINOv2's rule, which is BEiT's.
    stacks: stack -> factor of all of it; 1 where it is absent.
    frozen_norms: scales and biases of normalizations have 0.
    idle: names of modules that have 0.
  """

  head: float
  parts: Mapping[str, float]
  layer_decay: float
  layers: Mapping[str, Layers]
  stacks: Mapping[str, float]
  frozen_norms: bool
  idle: frozenset[str]

  def of(self, params: Tree) -> Tree:
    """Returns the factors of {stack: parameters}, Python floats in the same tree."""
    norms = {path[:-1] for path in paths(params) if path[-1] == "scale"}

    def factor(path: tuple[str, ...]) -> float:
      if (self.frozen_norms and path[:-1] in norms) or self.idle.intersection(path):
        return 0.0
      stack, *inside = path
      return self._part(inside) * self._layer(stack, inside) * self.stacks.get(stack, 1.0)

    return by_path(params, factor)

  def _part(self, inside: Sequence[str]) -> float:
    text = "/".join(inside)
    fitting = [beginning for beginning in self.parts if text.startswith(beginning)]
    if fitting:
      return self.parts[max(fitting, key=len)]
    return 1.0 if ENCODER in inside else self.head

  def _layer(self, stack: str, inside: Sequence[str]) -> float:
    layers = self.layers.get(stack, ())
    if self.layer_decay == 1 or inside[0] != ENCODER:
      return 1.0
    depth = [k for k, units in enumerate(reversed(layers), 1) if inside[1] in units]
    return self.layer_decay ** depth[0] if depth else 1.0

  def check(self, params: Tree) -> None:
    """Looks for what acts on nothing.

    Args:
      params: {stack: parameters} of all stacks.

    Raises:
      ConfigError: a beginning that no path has; the message lists the units there are.
    """
    inside = ["/".join(path[1:]) for path in paths(params)]
    for beginning in self.parts:
      if not any(text.startswith(beginning) for text in inside):
        units = dict.fromkeys("/".join(path[1:3]) for path in paths(params))
        raise ConfigError(
          f"optimizer.multipliers: no parameter begins with {beginning!r}; parameters begin with: "
          f"{', '.join(units)}."
        )


def parse(multipliers: Iterable[str]) -> dict[str, float]:
  """('decoder=10', 'encoder/layer4=0.5') -> {'decoder': 10.0, 'encoder/layer4': 0.5}.

  Raises:
    ConfigError: a text that is no BEGINNING=FACTOR, or a beginning given twice.
  """
  factors = {}
  for text in multipliers:
    beginning, _, number = text.rpartition("=")
    factor = _nonnegative(number)
    if not beginning or factor is None or beginning in factors:
      raise ConfigError(
        f"optimizer.multipliers holds {text!r}: write BEGINNING=FACTOR with a factor of 0 or more, "
        "each beginning once, e.g. 'decoder=10' or 'encoder/layer4=0.5'."
      )
    factors[beginning] = factor
  return factors


def _nonnegative(text: str) -> float | None:
  try:
    number = float(text)
  except ValueError:
    return None
  return number if 0 <= number < float("inf") else None


def layers_of(networks: Mapping[str, Any]) -> dict[str, Layers]:
  """Returns stack -> the layers that its encoder declares; a network without one has none.

  Args:
    networks: {stack: network}.

  Raises:
    ConfigError: an encoder that declares no layers; the message lists the backbones that do.
  """
  encoders = {name: getattr(network, ENCODER, None) for name, network in networks.items()}
  for name, encoder in encoders.items():
    if encoder is not None and not hasattr(encoder, "layers"):
      able = [backbone for backbone, make in BACKBONES.items() if hasattr(make(), "layers")]
      raise ConfigError(
        f"optimizer.layer_decay: model.backbone={networks[name].backbone!r} does not say which of "
        f"its units come first; these do: {', '.join(able)}. Set optimizer.layer_decay to 1, or "
        "take one of them."
      )
  return {name: encoder.layers for name, encoder in encoders.items() if encoder is not None}


def paths(params: Tree) -> list[tuple[str, ...]]:
  """Returns the path of each leaf of nested dicts."""
  return [_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def by_path(params: Tree, value: Callable[[tuple[str, ...]], Any]) -> Tree:
  """Returns nested dicts shaped as `params` whose leaves are value(path)."""
  return jax.tree_util.tree_map_with_path(lambda path, _: value(_names(path)), params)


def _names(path: Any) -> tuple[str, ...]:
  return tuple(key.key for key in path)
