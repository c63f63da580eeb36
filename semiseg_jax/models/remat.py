"""Rematerialization: what the backward pass computes again instead of keeping it from the forward.

The unit is a child of a part of the network: a block of a ResNet, a module of HRNet, a convolution
of a head, each with its normalizations and activations.  A unit whose policy is

  'products' keeps the outputs of its convolutions and dense layers (named PRODUCT by them) and
             computes the rest again: normalizations, activations, resizes, attention weights;
  'blocks'   keeps its inputs only and runs again as a whole: up to a third more arithmetic.

The lowest memory is that of all units' inputs and of everything inside the largest unit.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from semiseg_jax.errors import ConfigError

PRODUCT = "product"
POLICIES = {
  "products": jax.checkpoint_policies.save_only_these_names(PRODUCT),
  "blocks": jax.checkpoint_policies.nothing_saveable,
}
Rules = tuple[tuple[str, str], ...]  # (beginning of 'part/unit', policy); the first match counts


def product(x: jax.Array) -> jax.Array:
  """Marks the output of a convolution or dense layer for the policy 'products'."""
  return checkpoint_name(x, PRODUCT)


def parse(text: str, units: Iterable[str]) -> Rules:
  """Reads `model.remat`.

  Args:
    text: a policy for every unit, or 'BEGINNING=POLICY,BEGINNING=POLICY', e.g.
      'encoder/layer1=blocks,decoder=products'; units that no beginning fits are kept whole.
    units: 'part/unit' of the network.

  Raises:
    ConfigError: an unknown policy, or a beginning that fits no unit, with the possible ones.
  """
  rules = []
  for item in text.split(","):
    beginning, _, policy = item.rpartition("=")
    if policy not in POLICIES:
      raise ConfigError(
        f"model.remat={text!r} holds {policy!r}; possible: none, {', '.join(POLICIES)}, or "
        "BEGINNING=POLICY for units, with commas between."
      )
    if not any(unit.startswith(beginning) for unit in units):
      raise ConfigError(
        f"model.remat={text!r}: no unit begins with {beginning!r}; units: {', '.join(units)}."
      )
    rules.append((beginning, policy))
  return tuple(rules)


@contextlib.contextmanager
def applied(part: str, rules: Rules) -> Iterator[None]:
  """Rematerializes the units of a part that runs inside this context."""
  running = set()

  def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = context.module.path
    if context.method_name != "__call__" or len(path) != 1 or path in running:
      return call(*args, **kwargs)
    unit = f"{part}/{path[0]}"
    policy = next((policy for start, policy in rules if unit.startswith(start)), None)
    if policy is None:
      return call(*args, **kwargs)
    running.add(path)
    try:
      return _rematerialize(context.module, POLICIES[policy], args, kwargs)
    finally:
      running.remove(path)

  with nn.intercept_methods(intercept):
    yield


def _rematerialize(module: nn.Module, policy: Any, args: Any, kwargs: Any) -> Any:
  # What is no array (the mode) goes around the transformation.
  traced = [_is_arrays(arg) for arg in args]

  def call(module: nn.Module, *arrays: Any) -> Any:
    rest = iter(arrays)
    return module(*[next(rest) if t else arg for arg, t in zip(args, traced)], **kwargs)

  arrays = [arg for arg, t in zip(args, traced) if t]
  return nn.remat(call, policy=policy)(module, *arrays)


def _is_arrays(arg: Any) -> bool:
  leaves = jax.tree.leaves(arg)
  return bool(leaves) and all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves)
