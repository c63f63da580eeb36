"""UniMatch V2 (Yang, Zhao, Zhao, TPAMI 2025, arXiv 2410.10777).

    m, c     = argmax, max softmax T(w)           averaged teacher in evaluation mode
    s_k     <- s_k (1 - M_k) + s'_k M_k           m_k, c_k, g_k likewise; s' is the reversed batch
    b        ~ Bernoulli(1/2)^(n x D)             D channels of the features
    p_s1, p_s2 = g(e(s_1) 2 b), g(e(s_2) (2 - 2 b))       half of the n pictures: not dropped
    L_sk     = sum CE(p_sk, m_k) [c_k >= tau] [g_k] / sum [g_k]
    L        = (L_x + lambda (L_s1 + L_s2) / 2) / 2
    T'      <- a(t) T' + (1 - a(t)) S',  a(t) = min(1 - 1/(t+1), decay)    after the update

Source: the released code.  The labeled pictures go through the student alone, the strong views
together; that matters for networks with batch statistics only.  One mask is for all maps of as many
channels: all four levels of DINOv2, as released.  The teacher averages running statistics too.

Ours: partners, the undropped half and means are those of the whole batch; the release has them
per GPU, as `loss_group` = pictures of a GPU has.  A batch of padding alone gives 0 and no NaN.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.methods import shared, weak_to_strong
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.methods.passes import Features
from semiseg_jax.methods.step import Step
from semiseg_jax.methods.weak_to_strong import WEAK
from semiseg_jax.ops.channels import chosen_rows, complementary_masks
from semiseg_jax.ops.consistency import ema_decay
from semiseg_jax.options import key

STRONG = ("strong_1", "strong_2")
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.WeakToStrong, shared.Weighted, shared.Supervised):
  """The config block `method.unimatch_v2`."""

  decay: float = key(0.996, "of the average, at most; 1 - 1/(t+1) before", at_least=0, below=1)
  drop: bool = key(True, "features of the strong views lose channels, each the other's")


def rules(c: Any) -> list[str]:
  """Those of weak to strong views."""
  return weak_to_strong.rules(c)


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures with two strong views, and partners."""
  return weak_to_strong.streams(c, 2)


def nets(c: Any) -> list[Net]:
  """N students, each with its teacher; published: one."""
  n, o = c.method.networks, c.method.unimatch_v2
  decay = lambda t: ema_decay(t, o.decay)
  teacher = Net("teacher", n, "average", of="networks", decay=decay, averaged_stats=True)
  return [Net("networks", n), teacher]


def loss(c: Any, s: Step) -> jax.Array:
  """L = (L_x + lambda (L_s1 + L_s2) / 2) / 2."""
  mixed, boxes = weak_to_strong.strong_views(c, s, 2)
  weak = {WEAK: s.x(WEAK), **weak_to_strong.partners(c, s)}
  T = s.net("teacher", weak, bn="eval", grad=False)
  _, targets = weak_to_strong.teach(c, s, T, boxes)
  together = weak_to_strong.groups(c, ("labeled",), STRONG)
  x = {"labeled": s.x("labeled"), **dict(zip(STRONG, mixed))}
  features = s.encode("networks", x, groups=together)
  if c.method.unimatch_v2.drop:
    features |= _complementary(s, *(features[k] for k in STRONG))
  P = s.decode("networks", features, groups=together)
  L_x = s.supervised(P["labeled"], s.y("labeled")).sum()
  L_s = sum(weak_to_strong.term(c, s, P[k], Y) for k, Y in zip(STRONG, targets)) / 2
  s.log("strong", L_s, float(s.copies("networks")))
  return (L_x + s.weight() * L_s) / 2


def _complementary(s: Step, *features: Features) -> dict[str, Features]:
  """The features of the two strong views, times masks that add up to 2."""
  groups = s.groups(s.y("labeled"))

  def masked(view: int, member: int, e: jax.Array) -> jax.Array:
    channels, n = e.shape[-1], len(e)
    b = s.u(f"channels/{member}/{channels}", WEAK, (channels,), copies=n) < 0.5
    whole = chosen_rows(s.u(f"whole/{member}", WEAK, (), copies=n), groups)
    mask = complementary_masks(b, whole)[view]
    return e * jnp.asarray(mask, e.dtype)[:, :, None, None]

  return {
    name: f.each(lambda member, _, e, view=view: masked(view, member, e))
    for view, (name, f) in enumerate(zip(STRONG, features))
  }
