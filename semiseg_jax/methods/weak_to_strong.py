"""What FixMatch, UniMatch and UniMatch V2 share: views, pasted boxes, confident pseudo labels.

The weak view w of an unlabeled crop gives m, c = argmax, max softmax f(w); g is false on padding.
Its strong views s_k have a box each, inside of which s_k, m_k, c_k, g_k are those of a partner.

    L(p, m, c, g) = sum CE(p, m) [c >= tau] [g] / sum [g]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.methods.contract import Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops import confidence
from semiseg_jax.ops.confidence import Taught
from semiseg_jax.ops.losses import mean_of_pools

WEAK, PARTNER = "unlabeled", "unlabeled_mix"
Groups = list[tuple[str, ...]] | None


def streams(c: Any, views: int) -> list[Stream]:
  """Labeled and unlabeled pictures, and partners of these unless the batch is reversed for them."""
  read = [labeled(c), unlabeled(c, WEAK, strong=views)]
  if c.method.box_partner != "reversed":
    same = c.method.box_partner == "same_image"
    read.append(unlabeled(c, PARTNER, strong=views, order=WEAK if same else ""))
  return read


def rules(c: Any) -> list[str]:
  """As many groups of unlabeled pictures as of labeled ones; a reversed group has two or more."""
  k, t = c.method.loss_group, c.train
  rows = [batch // t.accumulate for batch in (t.batch_labeled, t.batch_unlabeled)]
  alone = rows[1] * k // rows[0] if k and rows[0] else rows[1]
  if c.method.box_partner != "reversed" or alone != 1:
    return uneven_groups(c)
  return [
    f"method.box_partner='reversed': method.loss_group={k}, train.batch_unlabeled="
    f"{t.batch_unlabeled} and train.accumulate={t.accumulate} make groups of one picture, which "
    "would be its own partner: 'different_image', or larger groups (method.loss_group=0)."
  ]


def groups(c: Any, *together: tuple[str, ...]) -> Groups:
  """Returns the streams that share batch statistics; None: every stream has its own."""
  return list(together) if c.method.joint_statistics else None


def partners(c: Any, s: Step) -> dict[str, jax.Array]:
  """Returns the weak views of partners that have a stream of their own."""
  return {} if c.method.box_partner == "reversed" else {PARTNER: s.x(PARTNER)}


def strong_views(c: Any, s: Step, views: int) -> tuple[list[jax.Array], list[jax.Array]]:
  """Returns strong views [B,H,W,C] with boxes of their partners, and these boxes M [B,H,W]."""
  boxes = [s.single_box(WEAK, k) for k in range(1, views + 1)]
  mixed = []
  for k, M in enumerate(boxes, 1):
    own = s.x(WEAK, strong=k)
    turned = c.method.box_partner == "reversed"
    theirs = _reversed(s, own, 0) if turned else s.x(PARTNER, strong=k)
    mixed.append(jnp.where(M[..., None], theirs, own))
    s.show(f"strong {k}", mixed[-1])
  return mixed, boxes


def teach(
  c: Any, s: Step, P: Mapping[str, jax.Array], boxes: Sequence[jax.Array]
) -> tuple[Taught, list[Taught]]:
  """Returns what weak views teach, for themselves and for each strong view; logs how sure it is.

  Args:
    c: the config.
    s: the step.
    P: logits [N,B,H,W,C] of WEAK, and of PARTNER where it is a stream.
    boxes: M of each strong view.
  """
  own, mixed = targets(c, s, P, boxes)
  tau = c.method.threshold
  Y = confidence.sure_labels(own, tau)
  s.log("confident", confidence.sure(own, tau).sum(), own.g.sum() * len(Y))
  names = [f"strong_{k}" for k in range(1, len(mixed) + 1)] if mixed[1:] else ["strong"]
  for name, strong in zip(names, mixed):
    s.teaches(name, confidence.sure_labels(strong, tau), WEAK)
  s.health(Y, s.y(WEAK), P[WEAK].shape[-1])
  s.show("pseudo", Y)
  return own, mixed


def targets(
  c: Any, s: Step, P: Mapping[str, jax.Array], boxes: Sequence[jax.Array]
) -> tuple[Taught, list[Taught]]:
  """Returns the same as `teach` and logs nothing."""
  own = confidence.taught(P[WEAK], s.inside(WEAK))
  if c.method.box_partner == "reversed":
    theirs = Taught(*(_reversed(s, x, 1) for x in own))
  else:
    theirs = confidence.taught(P[PARTNER], s.inside(PARTNER))
  return own, [confidence.pasted(M, theirs, own) for M in boxes]


def term(c: Any, s: Step, P: jax.Array, Y: Taught, tau: float | None = None) -> jax.Array:
  """Returns L(P, m, c, g), summed over the networks; tau is `method.threshold` unless given."""
  tau = c.method.threshold if tau is None else tau
  pool = confidence.confident_cross_entropy_sums(P, Y, tau, s.groups(s.y("labeled")))
  return mean_of_pools([pool])


def _reversed(s: Step, x: jax.Array, axis: int) -> jax.Array:
  return confidence.reversed_rows(x, axis, s.groups(s.y("labeled")))
