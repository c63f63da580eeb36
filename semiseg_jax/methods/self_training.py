"""Offline self-training: a network labels the unlabeled pictures, a fresh one learns from all.

    teacher   T minimizes CE(f(x_l), y)
    labels    y_hat = argmax T(x_u), confidence max softmax T(x_u), stored
    student   S minimizes CE(f(x_l), y) + lambda CE(f(strong x_u), y_hat)
              where confidence >= threshold

Plain ST of Yang et al., CVPR 2022 (arXiv 2106.05095), keeps every pixel.  ST++ (`ranked`) puts
pictures between teacher and student that the teacher labels well:

    ranks     T_1 .. T_K = T, equally spaced checkpoints of the teacher, label u_i: M_i1 .. M_iK
              s_i = 1 / (K - 1) sum_{j < K} mIoU(M_ij, M_iK)                        (equation 4)
    D_u1      the more reliable half by s, labeled by T; D_u2 the rest
    S_1       learns from D_l and D_u1, labels D_u2 (`relabel`: D_u1 again, too)
    S         learns from D_l, D_u1 and D_u2

Every network begins as the first one did.  The stored labels take the crop, scale and flip of their
picture.  With `data.targets` the labels of anybody else are learned from: the student alone is
trained, and keys of the stages before it are refused.

Ours: T, S_1 are the last checkpoints, where the authors take those of the best validation score
(quirk 'best_on_validation').  Theirs by option: labels from ten views (`scales`, `flip`), CutOut,
batches of both kinds mixed (`mixed`), a number of steps for each stage.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.evaluation import labeling, protocol
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stage, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.cutout import draw_cutout
from semiseg_jax.ops.losses import cross_entropy_sums, mean_of_pools
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.options import defaults, key

COMPAT = ("best_on_validation",)
TEACHES = True
_RANKED = {"ranked": (True,)}
_LABELING = ("scales", "flip", "teacher_batch", "steps")  # keys of the stages before the last


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.self_training`."""

  threshold: float = key(
    0.0, "pixels whose stored confidence is lower are ignored", at_least=0, at_most=1
  )
  strong: bool = key(True, "the student sees strong views of unlabeled pictures")
  cutout_p: float = key(0.0, "probability that a box of them is noise", at_least=0, at_most=1)
  mixed: bool = key(
    False, "published: labeled and unlabeled pictures share batch statistics and one mean"
  )
  scales: tuple[float, ...] = key(
    (1.0,),
    "at which pictures are labeled, the mean of the probabilities counts",
    at_least=protocol.LOWEST_SCALE,
    at_most=protocol.HIGHEST_SCALE,
  )
  flip: bool = key(False, "they are labeled mirrored, too")
  teacher_batch: int = key(0, "of the teacher, 0 = train.batch_labeled", at_least=0)
  steps: tuple[int, ...] = key((), "of all stages but the last; () = train.steps each", at_least=1)
  ranked: bool = key(False, "ST++: reliable pictures are learned from first")
  checkpoints: int = key(3, "K of the teacher, which rank", at_least=2, when=_RANKED)
  reliable: float = key(0.5, "share of the reliable pictures", above=0, below=1, when=_RANKED)
  relabel: bool = key(False, "the first student labels reliable pictures anew", when=_RANKED)


def stages(c: Any) -> list[Stage]:
  """Teacher, then one student or two; the student alone where labels are given."""
  if c.data.targets:
    return []
  o, best = c.method.self_training, "best_on_validation" in c.method.compat
  steps, follows = o.steps or (c.train.steps,) * 2, not o.steps
  labeler = labeling.Labeler("best" if best else "last", tuple(o.scales), o.flip)
  teacher = {
    "method.name": "supervised",
    "method.networks": 1,
    "model.family": (),
    "eval.network": "0",
    "eval.stack": "",
    "train.steps": steps[0],
    "train.batch_labeled": o.teacher_batch or c.train.batch_labeled,
  }
  last = {"data.targets": f"{{workdir}}/{labeling.FOLDER}"}
  if not o.ranked:
    store = partial(labeling.store_labels, labeler=labeler)
    return [Stage("1_teacher", teacher, store, follows), Stage("2_student", last)]
  teacher["checkpoint.spaced"] = o.checkpoints
  first = {
    "data.targets": f"{{workdir}}/{labeling.RELIABLE}",
    "data.unlabeled": "stored",
    "train.steps": steps[1],
  }
  rank = partial(
    labeling.store_reliable, labeler=labeler, checkpoints=o.checkpoints, share=o.reliable
  )
  rest = partial(
    labeling.store_rest, labeler=labeler, unlabeled=c.data.unlabeled, relabel=o.relabel
  )
  students = [Stage("2_first_student", first, rest, follows), Stage("3_student", last)]
  return [Stage("1_teacher", teacher, rank, follows), *students]


def rules(c: Any) -> list[str]:
  """As many groups of unlabeled pictures as of labeled ones; a number of steps for each stage."""
  o, faults = c.method.self_training, uneven_groups(c)
  before = 2 if o.ranked else 1
  if o.steps and len(o.steps) != before:
    faults.append(f"method.self_training.steps={o.steps}: {before}, of all stages but the last.")
  if not o.scales:
    faults.append("method.self_training.scales=(): one or more.")
  if c.method.compat and not c.data.val:
    faults.append(f"method.compat={c.method.compat}: the best score takes a list, data.val.")
  if o.mixed and (c.method.supervised_loss, c.method.class_weighting) != ("ce", "equal"):
    faults.append(
      "method.self_training.mixed=True: one mean takes method.supervised_loss='ce' and "
      "method.class_weighting='equal'."
    )
  return faults


def whole_rules(c: Any) -> list[str]:
  """Where labels are given, keys that say how they are made are refused."""
  o, given, neutral = c.method.self_training, c.data.targets, defaults(Options)
  if not given:
    return []
  faults = []
  if o.ranked:
    faults.append(
      f"method.self_training.ranked=True: data.targets={given!r} gives the labels, and the student "
      "alone is trained; set it to False, or data.targets to '' for ST++."
    )
  if c.method.compat:
    faults.append(
      f"method.compat={c.method.compat}: data.targets={given!r} gives the labels, and no teacher "
      "has checkpoints to choose from; set it to (), or data.targets to ''."
    )
  values = {name: getattr(o, name) for name in _LABELING}
  return faults + [
    f"method.self_training.{name}={value!r}: data.targets={given!r} does not read it; leave it at "
    f"{neutral[name]!r}."
    for name, value in values.items()
    if value != neutral[name]
  ]


def streams(c: Any) -> list[Stream]:
  """Labeled pictures, and unlabeled ones with their stored labels."""
  strong = int(c.method.self_training.strong)
  return [labeled(c), unlabeled(c, targets=True, strong=strong)]


def nets(c: Any) -> list[Net]:
  """N networks; published: one."""
  return [Net("networks", c.method.networks)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE(f(x_l), y) + lambda CE(f(strong x_u), y_hat); `mixed`: one mean over both."""
  o, y = c.method.self_training, s.y("labeled")
  x_u = s.x("unlabeled", strong=int(o.strong))
  sure = s.confidence("unlabeled") >= (round(255 * o.threshold) - 0.5) / 255  # stored in 8 bits
  if o.cutout_p:
    x_u, outside = _cut_out(c, s, x_u)
    sure &= outside
  together = [("labeled", "unlabeled")] if o.mixed else None
  P = s.net("networks", {"labeled": s.x("labeled"), "unlabeled": x_u}, groups=together)
  y_hat = jnp.where(sure, s.target("unlabeled"), jnp.uint8(IGNORE))
  sums = lambda stream, Y: cross_entropy_sums(
    P[stream], jnp.broadcast_to(Y[None], P[stream].shape[:-1]), s.groups(y)
  )
  total, count = sums("unlabeled", y_hat)
  pseudo = mean_of_pools([(total, count)])
  s.log("pseudo_supervised", pseudo, float(s.copies("networks")))
  s.teaches("unlabeled", jnp.broadcast_to(y_hat[None], P["unlabeled"].shape[:-1]))
  s.health(y_hat[None], s.y("unlabeled"), P["unlabeled"].shape[-1])
  s.show("strong", x_u)
  s.show("stored", y_hat)
  L_x = s.supervised(P["labeled"], y).sum()
  if o.mixed:
    return mean_of_pools([sums("labeled", y), (s.weight() * total, count)])
  return L_x + s.weight() * pseudo


def _cut_out(c: Any, s: Step, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Pictures with a box of noise in some, and where there is none, bool [B,H,W]."""
  M, u = draw_cutout(
    s.keys("cutout", "unlabeled"),
    size=x.shape[1:3],
    channels=x.shape[-1],
    probability=c.method.self_training.cutout_p,
  )
  noise = normalize(jnp.floor(255 * u), None, tuple(c.data.mean), tuple(c.data.std), x.dtype)
  return jnp.where(M[..., None], noise, x), ~M
