"""FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685) as UniMatch and UniMatch V2 have it.

    m, c = argmax, max softmax f(w)             weak view, no gradient
    s   <- s (1 - M) + s' M;  m, c, g likewise  a box M of the partner (CutMix)
    L_s  = sum CE(f(s), m) [c >= tau] [g] / sum [g]
    L    = (CE(f(x), y) + lambda L_s) / 2

Source: the released code of UniMatch (CVPR 2023, arXiv 2208.09910) and of UniMatch V2 (arXiv
2410.10777).  `teacher=student` is the former: f(w) has the batch statistics of x and w together,
the partner's m' and c' come from evaluation mode.  `teacher=average` is the latter: an average of
the student, parameters and running statistics, labels w in evaluation mode, and x and s go through
the student together; its partners are the reversed batch (`box_partner`).

Ours: partners are different pictures, where the first release pairs two crops of one
(`box_partner`); means are over the whole batch, where both releases have one per GPU
(`loss_group`); a batch of padding alone gives 0 and no NaN.
"""

import dataclasses
from typing import Any

import jax

from semiseg_jax.methods import shared, weak_to_strong
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.methods.step import Step
from semiseg_jax.methods.weak_to_strong import WEAK
from semiseg_jax.ops.consistency import ema_decay
from semiseg_jax.options import key

TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.WeakToStrong, shared.Weighted, shared.Supervised):
  """The config block `method.fixmatch`."""

  teacher: str = key(
    "student",
    "who labels weak views: 'average' of the student, as in UniMatch V2's code",
    one_of=("student", "average"),
  )
  decay: float = key(
    0.996,
    "of the average, at most; 1 - 1/(t+1) before",
    at_least=0,
    below=1,
    when={"teacher": ("average",)},
  )


def rules(c: Any) -> list[str]:
  """Those of weak to strong views."""
  return weak_to_strong.rules(c)


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures with one strong view, and partners."""
  return weak_to_strong.streams(c, 1)


def nets(c: Any) -> list[Net]:
  """N networks, each with an average where that teaches; published: one."""
  n, o = c.method.networks, c.method.fixmatch
  both = [Net("networks", n)]
  if o.teacher == "average":
    decay = lambda t: ema_decay(t, o.decay)
    both.append(Net("teacher", n, "average", of="networks", decay=decay, averaged_stats=True))
  return both


def loss(c: Any, s: Step) -> jax.Array:
  """L = (L_x + lambda L_s) / 2."""
  mixed, boxes = weak_to_strong.strong_views(c, s, 1)
  averaged = c.method.fixmatch.teacher == "average"
  T, S = (_taught_by_average if averaged else _taught_by_itself)(c, s, mixed[0])
  _, [target] = weak_to_strong.teach(c, s, T, boxes)
  L_x = s.supervised(S["labeled"], s.y("labeled")).sum()
  L_s = weak_to_strong.term(c, s, S["strong"], target)
  s.log("strong", L_s, float(s.copies("networks")))
  return (L_x + s.weight() * L_s) / 2


def _taught_by_itself(c: Any, s: Step, x_s: jax.Array) -> tuple:
  """Passes: partner in evaluation mode; labeled with weak; strong."""
  T = dict(weak_to_strong.partners(c, s))
  if T:
    T = s.net("networks", T, bn="eval", grad=False)
  x = {"labeled": s.x("labeled"), WEAK: s.x(WEAK)}
  S = s.net("networks", x, groups=weak_to_strong.groups(c, ("labeled", WEAK)))
  return T | {WEAK: S[WEAK]}, S | s.net("networks", {"strong": x_s})


def _taught_by_average(c: Any, s: Step, x_s: jax.Array) -> tuple:
  """Passes: weak through the teacher; labeled with strong through the student."""
  weak = {WEAK: s.x(WEAK), **weak_to_strong.partners(c, s)}
  T = s.net("teacher", weak, bn="eval", grad=False)
  x = {"labeled": s.x("labeled"), "strong": x_s}
  return T, s.net("networks", x, groups=weak_to_strong.groups(c, ("labeled", "strong")))
