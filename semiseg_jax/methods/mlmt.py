"""MLMT, the multi-label mean teacher of Mittal, Tatarchenko, Brox (TPAMI 2021, arXiv 1908.05724).

A classifier of whole pictures, the high-level branch of s4GAN: with z = S(x), the logits of the
classes of a picture, from a student S and its teacher T

    L = mean_c BCE(sigmoid z_c(x_l), y_c) + lambda w(t) mean (1 - cos(S(s(x_u)), T(w(x_u))))
    theta' <- a(t) theta' + (1 - a(t)) theta,  a(t) = min(1 - 1/(t+2), 0.999),  t from 0

y_c: class c has a pixel in the picture; w, s: weak and strong view; w(t) is 0 for a while and then
rises linearly.  T starts with the backbone of S and a head of its own.  Only parameters are
averaged: T normalizes with its batch and keeps running statistics of its own, with which it is
evaluated.  With lambda = 0, the supervised baseline, T passes the labeled pictures and there are no
others.  Its probabilities say which classes a segmentation may have:
`evaluate --workdir=SEGMENTATION --gate=CLASSIFIER` (evaluation/gate.py).

Source: the released code, which mirrors the two views independently; here they are mirrored alike.
There y_c comes from lists, here from the labeled pixels of the resized picture, and a picture
without one does not count.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.class_maps import image_labels, known_labels
from semiseg_jax.ops.consistency import cosine_distance, ema_decay
from semiseg_jax.ops.fusion import binary_cross_entropy
from semiseg_jax.ops.ramps import ramp
from semiseg_jax.options import key

CLASSIFIES = True
EVALUATED = ("teacher",)
RAMP = "linear"
COMPAT = ("teacher_on_labeled",)  # T passes labeled pictures too: its running statistics move


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.mlmt`."""

  decay: float = key(0.999, "of the average, at most; 1 - 1/(t+2) before", at_least=0, below=1)
  start: int = key(0, "steps in which lambda is 0, before it rises", at_least=0)
  epoch: int = key(
    1, "steps between two changes of lambda, 1 = at every step; published: an epoch", at_least=1
  )


def rules(c: Any) -> list[str]:
  """Whole pictures have no pixels to mine, groups are even, and lambda has one start."""
  lines = uneven_groups(c)
  if c.method.supervised_loss != "ce":
    lines.append(
      f"method.supervised_loss={c.method.supervised_loss!r}: MLMT learns the classes of whole "
      "pictures; leave it at 'ce'."
    )
  if c.method.weight_start:
    lines.append(
      f"method.weight_start={c.method.weight_start}: MLMT has a start of its own; set "
      "method.mlmt.start."
    )
  return lines


def streams(c: Any) -> list[Stream]:
  """Whole labeled pictures, and unlabeled ones with a strong view unless lambda is 0."""
  others = [unlabeled(c, view="whole", strong=1)] if c.method.weight else []
  return [labeled(c, view="whole"), *others]


def nets(c: Any) -> list[Net]:
  """N students S (published: one), each with its teacher T."""
  n, limit = c.method.networks, c.method.mlmt.decay
  decay = lambda t: ema_decay(t + 1, limit)
  teacher = Net("teacher", n, "average", of="networks", decay=decay, drawn=("decoder",))
  return [Net("networks", n), teacher]


def loss(c: Any, s: Step) -> jax.Array:
  """L = BCE + lambda w(t) (1 - cos)."""
  y, x_l = s.y("labeled"), s.x("labeled")
  if not c.method.weight:
    _classified(s, "teacher", {"labeled": x_l}, grad=False)
    S = _classified(s, "networks", {"labeled": x_l})
    return s.supervised(S["labeled"], y, _of_pictures(s)).sum()
  x_s = s.x("unlabeled", strong=1)
  S = _classified(s, "networks", {"labeled": x_l, "strong": x_s})
  seen = {"labeled": x_l} if "teacher_on_labeled" in c.method.compat else {}
  T = _classified(s, "teacher", {**seen, "unlabeled": s.x("unlabeled")}, grad=False)
  consistency = cosine_distance(S["strong"], T["unlabeled"]).mean(1)
  w = c.method.weight * consistency_weight(c, s.t)
  s.log("consistency", consistency.sum(), float(len(consistency)))
  s.log("consistency_weight", w)
  s.show("strong", x_s)
  return s.supervised(S["labeled"], y, _of_pictures(s)).sum() + w * consistency.sum()


def _classified(s: Step, net: str, x: dict[str, jax.Array], grad: bool = True) -> dict:
  """Logits z [N,B,C] of pictures; of a head with a map of logits their mean."""
  return {k: z.mean((2, 3)) for k, z in s.net(net, x, grad=grad, out="head").items()}


def _of_pictures(s: Step) -> Any:
  """(z [N,B,C], labels [B,H,W]) -> (BCE [N], labeled pixels [N])."""

  def bce(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    present = image_labels(y, z.shape[-1], background=False)
    entropy = binary_cross_entropy(z, present, known_labels(y, present), s.groups(y))
    return entropy, jnp.full(len(z), (y != IGNORE).sum(), jnp.float32)

  return bce


def consistency_weight(c: Any, t: jax.Array) -> jax.Array:
  """Returns w(t): published 0 up to epoch 10, then min(1, 2 (epoch - 10) / epochs)."""
  o, m = c.method.mlmt, c.method
  t = t // o.epoch * o.epoch - o.start
  return jnp.where(t >= 0, ramp(m.weight_ramp or RAMP, t, m.weight_ramp_steps), 0)
