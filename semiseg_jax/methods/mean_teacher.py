"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780) for segmentation.

    L = CE(S(x_l), y) + lambda r(t) mean_pixels |softmax S(x_u) - softmax T(x_u)|^2
    theta' <- a(t) theta' + (1 - a(t)) theta        after the optimizer's step, no gradient

|.|^2 is a mean over classes ('prob_sse': their sum).  r(t) ramps up over `weight_ramp_steps`,
a(t) = min(1 - 1/(t+1), decay).  PixelSSL compares logits; the baseline of the CPS authors
probabilities of labeled and unlabeled pictures, lambda = 100.

With CutMix this is CutMix-Seg (French et al., BMVC 2020, arXiv 1906.01916): the student sees
x_A (1-M) + x_B M, its target are the teacher's logits of x_A and x_B mixed with the same M, and the
share of pixels of which the teacher is sure multiplies the distance.  With `strong` the student
sees strong views of the unlabeled pictures (French and Mackiewicz, arXiv 2110.04487).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, cutmix_streams
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.consistency import KINDS, ema_decay, pixel_distance
from semiseg_jax.ops.losses import cross_entropy_over_all
from semiseg_jax.options import key

COMPAT = ("consistency_padding",)  # padding is compared like any pixel
RAMP = "sigmoid"
TEACHES = True
TEACHER_BN = {"own_batch": "train", "ema_buffers": "eval"}


@dataclasses.dataclass(frozen=True)
class Options(shared.CutMix, shared.Weighted, shared.Supervised):
  """The config block `method.mean_teacher`."""

  decay: float = key(0.99, "of the average, at most; 1 - 1/(t+1) before", at_least=0, below=1)
  consistency: str = key(
    "prob_mse", "what is compared: 'logit_mse' PixelSSL, 'prob_sse' CutMix-Seg", one_of=KINDS
  )
  on: str = key(
    "unlabeled",
    "'all': labeled pictures too, one mean; the CPS authors' baseline",
    one_of=("unlabeled", "all"),
    when={"cutmix": (False,)},
  )
  teacher_bn: str = key(
    "own_batch",
    "the teacher normalizes with its batch; 'ema_buffers': with averages of the student's running "
    "statistics",
    one_of=TEACHER_BN,
  )
  ce_mean: str = key(
    "valid_pixels",
    "'all_pixels': ignored ones count 0 but stay in the mean (PixelSSL)",
    one_of=("valid_pixels", "all_pixels"),
    when={"supervised_loss": ("ce",)},
  )
  threshold: float = key(
    0.0,
    "the share of pixels whose largest probability is at least this multiplies the distance; 0.97: "
    "CutMix-Seg; 0 = 1",
    at_least=0,
    below=1,
  )
  strong: bool = key(False, "the student sees strong views of unlabeled pictures")


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures, and partners to mix these with."""
  strong = int(c.method.mean_teacher.strong)
  return [dataclasses.replace(s, strong=strong * (s.name != "labeled")) for s in cutmix_streams(c)]


def nets(c: Any) -> list[Net]:
  """N students, each with its teacher."""
  n, o = c.method.networks, c.method.mean_teacher
  averaged = o.teacher_bn == "ema_buffers"
  decay = lambda t: ema_decay(t, o.decay)
  teacher = Net("teacher", n, "average", of="networks", decay=decay, averaged_stats=averaged)
  return [Net("networks", n), teacher]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE + lambda r(t) |S - T|^2."""
  o = c.method.mean_teacher
  x = {name: s.x(name) for name in ("labeled", "unlabeled")}
  inside = {name: s.inside(name, unless="consistency_padding") for name in x}
  truth = s.y("unlabeled")
  seen = dict(x) if o.on == "all" else {"unlabeled": x["unlabeled"]}
  if c.method.cutmix:
    seen["unlabeled_mix"] = s.x("unlabeled_mix")
  T = s.net("teacher", seen, bn=TEACHER_BN[o.teacher_bn], grad=False)
  if o.strong:
    seen |= {name: s.x(name, strong=1) for name in seen if name != "labeled"}
    x["unlabeled"] = seen["unlabeled"]
  if c.method.cutmix:
    A, B, M = "unlabeled", "unlabeled_mix", s.cutmix("unlabeled")
    T[A] = jnp.where(M[None, ..., None], T.pop(B), T[A])
    x[A] = jnp.where(M[..., None], seen[B], x[A])
    inside[A] = jnp.where(M, s.inside(B, unless="consistency_padding"), inside[A])
    truth = jnp.where(M, s.y(B), truth)
    s.show("mask", M)
    s.show("mixed", x[A])
  S = s.net("networks", x)
  total, count, sure = (sum(p) for p in zip(*(_compared(o, S[k], T[k], inside[k]) for k in T)))
  consistency = total / jnp.maximum(count, 1)
  if o.threshold:
    consistency = consistency * sure / jnp.maximum(count, 1)
  Y = jnp.where(inside["unlabeled"][None], T["unlabeled"].argmax(-1), IGNORE)
  s.teaches("unlabeled", jnp.where(_sure(o, T["unlabeled"]), Y, IGNORE))
  s.log("consistency", consistency.sum(), float(len(consistency)))
  s.log("consistency_weight", s.weight())
  s.health(Y, truth, T["unlabeled"].shape[-1])
  s.show("teacher", T["unlabeled"].argmax(-1))
  own = cross_entropy_over_all if o.ce_mean == "all_pixels" else None
  supervised = s.supervised(S["labeled"], s.y("labeled"), own)
  return supervised.sum() + s.weight() * consistency.sum()


def _compared(
  o: Any, S: jax.Array, T: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the summed distance [N], the number of its pixels and of those T is sure of [N]."""
  distance = jnp.where(inside[None], pixel_distance(S, T, o.consistency), 0).sum((1, 2, 3))
  sure = _sure(o, T) & inside[None]
  return distance, inside.sum(), sure.sum((1, 2, 3))


def _sure(o: Any, T: jax.Array) -> jax.Array:
  """Where the teacher's largest probability is at least the threshold, bool [N,B,H,W]."""
  return jax.nn.softmax(T, axis=-1).max(-1) >= o.threshold
