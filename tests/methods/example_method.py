"""Entropy minimization (Grandvalet and Bengio, 2004): sure predictions on unlabeled pictures.

L = CE(P^l, y) + lambda mean_pixels( -sum_c p_c log p_c ),    p = softmax P^u
"""

import dataclasses

import jax
import jax.numpy as jnp

from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, labeled, unlabeled


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """It reads these keys."""


def streams(c):
  return [labeled(c), unlabeled(c)]


def nets(c):
  return [Net("networks", c.method.networks)]


def loss(c, s):
  P = s.net("networks", {name: s.x(name) for name in ("labeled", "unlabeled")})
  log_p = jax.nn.log_softmax(P["unlabeled"])
  entropy = -(jnp.exp(log_p) * log_p).sum(-1).mean()
  s.log("entropy", entropy)
  return s.supervised(P["labeled"], s.y("labeled")).sum() + s.weight() * entropy
