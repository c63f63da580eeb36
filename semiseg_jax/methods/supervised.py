"""Supervised training on the labeled pictures alone: the baseline of every comparison."""

import dataclasses
from typing import Any

import jax

from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled
from semiseg_jax.methods.step import Step


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """It reads these keys of the block `method`, and has none of its own."""


def rules(c: Any) -> list[str]:
  """One network: copies of a baseline are no other baseline."""
  if c.method.networks == 1:
    return []
  return [f"method.networks={c.method.networks}: method.name='supervised' trains 1; set it to 1."]


def streams(c: Any) -> list[Stream]:
  """The labeled pictures."""
  return [labeled(c)]


def nets(c: Any) -> list[Net]:
  """One network."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE(f(x), y)."""
  P = s.net("networks", {"labeled": s.x("labeled")})
  return s.supervised(P["labeled"], s.y("labeled")).sum()
