"""Supervised training on the labeled pictures alone: the baseline of every comparison.

    L = CE(f(x), y) + lambda_a CE(a(x), y)

a: auxiliary logits, where the head gives them and they have a weight.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.losses import weighted_cross_entropy
from semiseg_jax.options import key

AUXILIARY = "weight_auxiliary"


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """The config block `method.supervised`."""

  class_weights: tuple[float, ...] = key(
    (), "of the cross entropy, by class; () = none", at_least=0, when={"supervised_loss": ("ce",)}
  )
  weight_auxiliary: float = key(0.0, "of auxiliary logits, where the head gives them", at_least=0)


def rules(c: Any) -> Iterator[str]:
  """One network: copies of a baseline are no other baseline; no logits that nobody reads."""
  if c.method.networks != 1:
    yield f"method.networks={c.method.networks}: method.name='supervised' trains 1; set it to 1."
  if c.model.deeplabv3plus.auxiliary and not c.method.supervised.weight_auxiliary:
    yield (
      "model.deeplabv3plus.auxiliary=True: method.name='supervised' does not read it with "
      "method.supervised.weight_auxiliary=0; U2PL's is 0.4."
    )


def streams(c: Any) -> list[Stream]:
  """The labeled pictures."""
  return [labeled(c)]


def nets(c: Any) -> list[Net]:
  """One network."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE(f(x), y) + lambda_a CE(a(x), y)."""
  o, y = c.method.supervised, s.y("labeled")
  P = s.net("networks", {"labeled": s.x("labeled")})["labeled"]
  total = s.supervised(P, y, own=class_weighted(c, "supervised", P.shape[-1])).sum()
  if o.weight_auxiliary:
    total += o.weight_auxiliary * s.auxiliary("labeled", y).sum()
  return total


def class_weighted(c: Any, name: str, classes: int) -> Callable[..., Any] | None:
  """Returns the cross entropy with `method.NAME.class_weights`; None: there are no weights.

  Raises:
    ConfigError: weights of other classes.
  """
  weights = tuple(c.method[name].class_weights)
  if not weights:
    return None
  if len(weights) != classes:
    raise ConfigError(f"method.{name}.class_weights={weights}: {classes}, or ().")
  return functools.partial(weighted_cross_entropy, weights=weights, group=c.method.loss_group)
