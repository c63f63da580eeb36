"""Cross Pseudo Supervision (Chen, Yuan, Zeng, Wang, CVPR 2021, arXiv 2106.01226), for N networks.

    P_k = f(x; theta_k)              logits of network k
    Y_k = argmax P_k                 its hard pseudo labels, no gradient, no threshold
    L_s   = sum_k CE(P_k^l, y)
    L_cps = 1/(N-1) sum_k sum_{j != k} CE(P_k, Y_j)
    L     = L_s + lambda L_cps

Without CutMix the pixels of L_cps are those of the labeled and the unlabeled pictures together, one
mean over both.  With CutMix they are those of mixed unlabeled pictures x_A (1-M) + x_B M, whose
pseudo labels are mixed with the same mask from passes on x_A and x_B without gradient; the labeled
pictures then take no part.  N = 2 is the published method.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, cutmix_streams, uneven_groups
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.confidence import of_others
from semiseg_jax.ops.losses import cross_pseudo_pool, mean_of_pools

COMPAT = ("pseudo_label_padding",)  # pseudo labels on padding too
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.CutMix, shared.PseudoLabelBN, shared.Weighted, shared.Supervised):
  """It reads these keys of the block `method`, and has none of its own."""


def rules(c: Any) -> list[str]:
  """Two networks or more, and pools of labeled and unlabeled pictures."""
  n = c.method.networks
  few = [f"method.networks={n}: CPS needs at least 2 networks."] if n < 2 else []
  return few + uneven_groups(c)


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures, and partners to mix these with."""
  return cutmix_streams(c)


def nets(c: Any) -> list[Net]:
  """N networks."""
  return [Net("networks", c.method.networks)]


def pseudo_labels(P: jax.Array) -> jax.Array:
  """Returns Y [N,B,H,W] uint8 of P [N,B,H,W,C]: the first class of the largest logit."""
  return jnp.argmax(jax.lax.stop_gradient(P), axis=-1).astype(jnp.uint8)


def loss(c: Any, s: Step) -> jax.Array:
  """L = L_s + lambda L_cps."""
  P_l, learned, truth = (_mixed if c.method.cutmix else _plain)(c, s)
  y, n = s.y("labeled"), s.copies("networks")
  supervised = s.supervised(P_l, y)
  pools = [cross_pseudo_pool(P, Y, s.groups(y)) for P, Y in learned]
  cps = mean_of_pools(pools) / (n - 1)
  weighted = s.weight() * mean_of_pools(pools) / (n - 1)
  s.log("cps", cps)
  s.log("cps_weighted", weighted)
  P, Y = learned[-1]
  s.teaches("mix" if c.method.cutmix else "unlabeled", of_others(Y))
  s.health(Y, truth, P.shape[-1])
  s.show("pseudo", Y)
  return supervised.sum() + weighted


def _plain(c: Any, s: Step) -> tuple:
  """Every network learns from the others on all pictures."""
  P = s.net("networks", {name: s.x(name) for name in ("labeled", "unlabeled")})
  Y = {k: s.hide_padding(k, pseudo_labels(P[k]), unless="pseudo_label_padding") for k in P}
  return P["labeled"], [(P[k], Y[k]) for k in P], s.y("unlabeled")


def _mixed(c: Any, s: Step) -> tuple:
  """On mixed pictures.  Mixing the arg maxima equals the arg maximum of the mixed logits."""
  A, B, M = "unlabeled", "unlabeled_mix", s.cutmix("unlabeled")
  bn = c.method.pseudo_label_bn
  teacher = s.net("networks", {"A": s.x(A), "B": s.x(B)}, bn=bn, grad=False)
  Y_A, Y_B = (
    s.hide_padding(stream, pseudo_labels(teacher[half]), unless="pseudo_label_padding")
    for half, stream in (("A", A), ("B", B))
  )
  x, Y = jnp.where(M[..., None], s.x(B), s.x(A)), jnp.where(M[None], Y_B, Y_A)
  P = s.net("networks", {"mix": x, "labeled": s.x("labeled")})
  s.show("mask", M)
  s.show("mixed", x)
  return P["labeled"], [(P["mix"], Y)], jnp.where(M, s.y(B), s.y(A))
