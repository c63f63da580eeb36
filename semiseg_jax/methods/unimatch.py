"""UniMatch (Yang, Qi, Feng, Zhang, Shi, CVPR 2023, arXiv 2208.09910).

    m, c   = argmax, max softmax f(w)           weak view, no gradient, no averaged teacher
    p_fp   = g(drop(e(w)))                      channels of the features dropped, no box
    s_k   <- s_k (1 - M_k) + s'_k M_k           two strong views; m_k, c_k, g_k likewise
    L_sk   = sum CE(f(s_k), m_k) [c_k >= tau] [g_k] / sum [g_k]
    L_fp   = sum CE(p_fp, m) [c >= tau] [g] / sum [g]
    L_u    = mu L_fp + (1 - mu) (L_s1 + L_s2) / 2         mu = 0.5
    L      = (L_x + lambda L_u) / 2                       lambda = 1

Source: the released code.  Its passes and their batch statistics are (1) m', c' of partners in
evaluation mode, (2) x and w through the encoder together, and through the decoder together with
their dropped copies, those of x included, (3) s_1 and s_2 together.  `joint_statistics=False` gives
every stream its own and drops nothing of x.  Dropped are channels of every map that the encoder
gives; of these DeepLabv3+ reads the published two, of stages 1 and 4.

Ours: partners are different pictures, where the release pairs two crops of one (`box_partner`);
means are over the whole batch, where the release has one per GPU (`loss_group`); a batch of padding
alone gives 0 and no NaN.
"""

import dataclasses
from typing import Any

import jax

from semiseg_jax.methods import shared, weak_to_strong
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.methods.passes import Features
from semiseg_jax.methods.step import Step
from semiseg_jax.methods.weak_to_strong import WEAK
from semiseg_jax.ops.channels import dropout_masks
from semiseg_jax.ops.confidence import Taught
from semiseg_jax.options import key

TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.WeakToStrong, shared.Weighted, shared.Supervised):
  """The config block `method.unimatch`."""

  feature_share: float = key(
    0.5, "mu: of the perturbed features in the unlabeled loss", at_least=0, at_most=1
  )
  feature_p: float = key(0.5, "probability that a channel is dropped", at_least=0, below=1)


def rules(c: Any) -> list[str]:
  """Those of weak to strong views."""
  return weak_to_strong.rules(c)


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures with two strong views, and partners."""
  return weak_to_strong.streams(c, 2)


def nets(c: Any) -> list[Net]:
  """N networks; published: one."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = (L_x + lambda L_u) / 2."""
  o = c.method.unimatch
  P, T, boxes = passes(c, s, o.feature_p)
  L_x = s.supervised(P["labeled"], s.y("labeled")).sum()
  L_s, L_fp = terms(c, s, P, *weak_to_strong.teach(c, s, T, boxes), c.method.threshold)
  n = float(s.copies("networks"))
  s.log("strong", L_s, n)
  s.log("features", L_fp, n)
  return (L_x + s.weight() * (o.feature_share * L_fp + (1 - o.feature_share) * L_s)) / 2


def passes(c: Any, s: Step, feature_p: float) -> tuple[dict, dict, list[jax.Array]]:
  """Returns logits of all streams, those that teach, and the boxes M of both strong views."""
  mixed, boxes = weak_to_strong.strong_views(c, s, 2)
  T = dict(weak_to_strong.partners(c, s))
  if T:
    T = s.net("networks", T, bn="eval", grad=False)
  P = _weak(c, s, feature_p)
  together = weak_to_strong.groups(c, ("strong_1", "strong_2"))
  P |= s.net("networks", dict(zip(("strong_1", "strong_2"), mixed)), groups=together)
  return P, T | {WEAK: P[WEAK]}, boxes


def terms(
  c: Any, s: Step, P: dict, weak: Taught, strong: list[Taught], tau: float, term: Any = None
) -> tuple[jax.Array, jax.Array]:
  """Returns (L_s1 + L_s2) / 2 and L_fp against these targets; `term` replaces L(p, m, c, g)."""
  term = term or weak_to_strong.term
  L_s1, L_s2 = (term(c, s, P[f"strong_{k}"], Y, tau) for k, Y in enumerate(strong, 1))
  return (L_s1 + L_s2) / 2, term(c, s, P[f"{WEAK}_fp"], weak, tau)


def _weak(c: Any, s: Step, feature_p: float) -> dict[str, jax.Array]:
  """Logits of labeled and weak pictures, and NAME_fp of perturbed features."""
  joint, names = c.method.joint_statistics, ("labeled", WEAK)
  together = weak_to_strong.groups(c, names)
  features = s.encode("networks", {name: s.x(name) for name in names}, groups=together)
  dropped = {
    f"{name}_fp": _dropped(s, name, features[name], feature_p)
    for name in (names if joint else (WEAK,))
  }
  together = weak_to_strong.groups(c, (*names, *dropped))
  return s.decode("networks", features | dropped, groups=together)


def _dropped(s: Step, stream: str, features: Features, feature_p: float) -> Features:
  """drop(e): other channels for every picture, map and network."""

  def masked(member: int, name: str, e: jax.Array) -> jax.Array:
    u = s.u(f"channels/{member}/{name}", stream, e.shape[-1:], copies=len(e))
    mask = dropout_masks(u, feature_p)
    return e * mask[:, :, None, None].astype(e.dtype)

  return features.each(masked)
