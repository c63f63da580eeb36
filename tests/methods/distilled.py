"""A fixed network teaches: the student learns its arg maximum on unlabeled pictures."""

import dataclasses

import jax.numpy as jnp

from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, labeled, unlabeled
from semiseg_jax.ops.losses import cross_entropy
from semiseg_jax.options import key


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  teacher: str = key("", "the work directory of the teacher", required=True)
  dtype: str = key("", "of the teacher's parameters")


def streams(c):
  return [labeled(c), unlabeled(c)]


def nets(c):
  o = c.method.distilled
  teacher = Net("teacher", 1, "fixed", source=o.teacher, dtype=o.dtype)
  return [Net("networks", c.method.networks), teacher]


def loss(c, s):
  x = {name: s.x(name) for name in ("labeled", "unlabeled")}
  T = s.net("teacher", {"unlabeled": x["unlabeled"]}, bn="eval", grad=False)["unlabeled"]
  S = s.net("networks", x)
  Y = jnp.broadcast_to(T.argmax(-1), S["unlabeled"].shape[:-1])
  distilled, _ = cross_entropy(S["unlabeled"], Y)
  s.log("distilled", distilled.sum(), float(len(S["unlabeled"])))
  return s.supervised(S["labeled"], s.y("labeled")).sum() + s.weight() * distilled.sum()
