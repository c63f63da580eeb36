"""Offline self-training: a network labels the unlabeled pictures, a fresh one learns from all.

    teacher   T minimizes CE(f(x_l), y)
    labels    y_hat = argmax T(x_u), confidence max softmax T(x_u), stored
    student   S minimizes CE(f(x_l), y) + lambda CE(f(strong x_u), y_hat)
              where confidence >= threshold

Plain ST of Yang et al., CVPR 2022 (arXiv 2106.05095), keeps every pixel.  The stored labels take
the crop, scale and flip of their picture.  With `data.targets` the labels of anybody else are
learned from: the student alone is trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.evaluation.labeling import store_labels
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stage, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.losses import cross_entropy_sums, mean_of_pools
from semiseg_jax.options import key


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.self_training`."""

  threshold: float = key(
    0.0, "pixels whose stored confidence is lower are ignored", at_least=0, at_most=1
  )
  strong: bool = key(True, "the student sees strong views of unlabeled pictures")


def stages(c: Any) -> list[Stage]:
  """Teacher, then student; the student alone where labels are given."""
  if c.data.targets:
    return []
  one = {"method.name": "supervised", "method.networks": 1, "model.family": ()}
  teacher = Stage("1_teacher", {**one, "eval.network": "0", "eval.stack": ""}, store_labels)
  return [teacher, Stage("2_student", {"data.targets": "{workdir}/targets"})]


def rules(c: Any) -> list[str]:
  """As many groups of unlabeled pictures as of labeled ones."""
  return uneven_groups(c)


def streams(c: Any) -> list[Stream]:
  """Labeled pictures, and unlabeled ones with their stored labels."""
  strong = int(c.method.self_training.strong)
  return [labeled(c), unlabeled(c, targets=True, strong=strong)]


def nets(c: Any) -> list[Net]:
  """N networks; published: one."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE(f(x_l), y) + lambda CE(f(strong x_u), y_hat)."""
  o = c.method.self_training
  x_u = s.x("unlabeled", strong=int(o.strong))
  P = s.net("networks", {"labeled": s.x("labeled"), "unlabeled": x_u})
  sure = s.confidence("unlabeled") >= o.threshold
  y_hat = jnp.where(sure, s.target("unlabeled"), jnp.uint8(IGNORE))
  Y = jnp.broadcast_to(y_hat[None], P["unlabeled"].shape[:-1])
  pseudo = mean_of_pools([cross_entropy_sums(P["unlabeled"], Y, s.groups(s.y("labeled")))])
  s.log("pseudo_supervised", pseudo, float(len(Y)))
  s.health(y_hat[None], s.y("unlabeled"), P["unlabeled"].shape[-1])
  s.show("strong", x_u)
  s.show("stored", y_hat)
  return s.supervised(P["labeled"], s.y("labeled")).sum() + s.weight() * pseudo
