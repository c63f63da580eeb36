"""CPC: GCT's two networks without its flaw detector, as the CPS authors drew it, for N networks.

    p_k = softmax f(x; theta_k)      confidence map of network k
    L_s   = sum_k CE(p_k^l, y)
    L_cpc = 1/(N-1) sum_k sum_{j != k} mean |p_k - sg p_j|^2
    L     = L_s + lambda r(t) L_cpc

The figure of CPS (Chen et al., CVPR 2021) states its one difference to CPS: networks that start
apart learn from each other's confidence maps in place of one-hot ones.  It names Ke et al., ECCV
2020, of which it is a simplified form; that method whole is gct.py.  N = 2 is the form in the
figure.

No code of it is published.  Open there, and decided here: the squared distance is the mean over
classes, and pixels of labeled and unlabeled pictures share one mean, as in the mean teacher of the
CPS authors, whose lambda of 100 is where to start; r(t) is the rise of GCT's consistency, off by
default; padding is not compared.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.confidence import of_others
from semiseg_jax.ops.consistency import pixel_distance

COMPAT = ("consistency_padding",)  # padding is compared like any pixel
RAMP = "sigmoid"
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """It reads these keys of the block `method`, and has none of its own."""


def rules(c: Any) -> list[str]:
  """Two networks or more."""
  n = c.method.networks
  return [f"method.networks={n}: CPC needs at least 2 networks."] if n < 2 else []


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures."""
  return [labeled(c), unlabeled(c)]


def nets(c: Any) -> list[Net]:
  """N networks."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = L_s + lambda r(t) L_cpc."""
  P = s.net("networks", {name: s.x(name) for name in ("labeled", "unlabeled")})
  inside = {name: s.inside(name, unless="consistency_padding") for name in P}
  total = sum(jnp.where(inside[k][None], distance_to_others(P[k]), 0).sum((1, 2, 3)) for k in P)
  cpc = total / jnp.maximum(sum(pixels.sum() for pixels in inside.values()), 1)
  supervised = s.supervised(P["labeled"], s.y("labeled"))
  Y = jnp.where(inside["unlabeled"][None], P["unlabeled"].argmax(-1), IGNORE)
  s.teaches("unlabeled", of_others(Y))
  s.log("cpc", cpc.sum())
  s.log("consistency_weight", s.weight())
  s.health(Y, s.y("unlabeled"), P["unlabeled"].shape[-1])
  s.show("pseudo", P["unlabeled"].argmax(-1))
  return supervised.sum() + s.weight() * cpc.sum()


def distance_to_others(P: jax.Array) -> jax.Array:
  """Returns 1/(N-1) sum_{j != k} mean_c (p_k - sg p_j)^2 [N,B,H,W] of logits P [N,B,H,W,C]."""
  n = len(P)
  pairs = (pixel_distance(P, jnp.roll(P, shift, axis=0), "prob_mse") for shift in range(1, n))
  return sum(pairs) / (n - 1)
