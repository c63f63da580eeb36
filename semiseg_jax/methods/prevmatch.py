"""PrevMatch (Shin et al., 2024, arXiv 2405.20610): UniMatch, guided by its earlier networks.

    queue   <- the network, every `every` updates; of K places the oldest is given up
    n        ~ uniform on 1..M, at most what the queue holds: n of it, f_i; a ~ Dirichlet(1)
    P_prev   = sum_i a_i f_i(w)                  logits, in evaluation mode, no gradient
    S        = mu L_fp + (1 - mu) (L_s1 + L_s2) / 2          of UniMatch (unimatch.py), tau
    S_prev   = the same on the same predictions, against argmax P_prev with tau_prev
    L        = (L_x + lambda S + lambda_t S_prev) / (2 + lambda_t)
    lambda_t = 1 - |2 t / T - 1|                 rises over the first half of the run, then falls

Before the queue has its first entry L = (L_x + lambda S) / 2.  `weighting='confidence'` is the
release's 'pixelavg' for S_prev: a picture's mean confidence in place of [c >= tau_prev].

Ours: an entry every so many updates.  The release enters what reached a new best score on the
validation set: scores of pictures that no method may learn from, so there is no quirk for it.
lambda_t follows steps, not epochs.  One draw is for all devices.  The queue is in the checkpoint,
so that a resumed run has the same bits; the release loses it.  M networks are always run, and some
have weight 0: it keeps one program.  Memory: K more copies of the networks on every device.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax import stacks
from semiseg_jax.methods import shared, unimatch, weak_to_strong
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.methods.step import Step
from semiseg_jax.methods.weak_to_strong import WEAK
from semiseg_jax.ops import confidence
from semiseg_jax.ops.ensembles import draw_ensemble
from semiseg_jax.ops.losses import mean_of_pools
from semiseg_jax.options import key

Tree = Any
# 'summed_confidence': with `weighting='confidence'` the sum of the cross entropy, padding included,
# times the sum of the confidences.
COMPAT = ("summed_confidence",)
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.WeakToStrong, shared.Weighted, shared.Supervised):
  """The config block `method.prevmatch`."""

  feature_share: float = key(0.5, "mu: of the perturbed features in S", at_least=0, at_most=1)
  feature_p: float = key(0.5, "probability that a channel is dropped", at_least=0, below=1)
  queue: int = key(8, "K: places of the queue", at_least=1)
  every: int = key(2000, "updates between two entries; a run has 10 to 30 of them", at_least=1)
  models: int = key(3, "M: networks of an ensemble, at most K", at_least=1)
  random_models: bool = key(True, "n is drawn; False: n = M")
  threshold_previous: float = key(
    0.9, "tau_prev", at_least=0, at_most=1, when={"weighting": ("threshold",)}
  )
  weighting: str = key(
    "threshold",
    "of S_prev; 'confidence': the release's on Cityscapes",
    one_of=("threshold", "confidence"),
  )


def rules(c: Any) -> list[str]:
  """As UniMatch; ensembles not larger than the queue, entries within the run."""
  o = c.method.prevmatch
  wrong = {
    f"method.prevmatch.models={o.models}: at most queue={o.queue}.": o.models > o.queue,
    f"method.prevmatch.every={o.every}: the queue is empty for all of train.steps={c.train.steps}; "
    "set it to a 10th to a 30th of them.": o.every >= c.train.steps > 0,
    "method.compat=('summed_confidence',) needs method.prevmatch.weighting='confidence'.": (
      "summed_confidence" in c.method.compat and o.weighting != "confidence"
    ),
  }
  return unimatch.rules(c) + [line for line, broken in wrong.items() if broken]


def streams(c: Any) -> list[Stream]:
  """Those of UniMatch."""
  return unimatch.streams(c)


def nets(c: Any) -> list[Net]:
  """N networks; published: one."""
  return unimatch.nets(c)


def phase(c: Any, t: int) -> frozenset[str]:
  """'previous': the queue has an entry."""
  return frozenset({"previous"} if t >= c.method.prevmatch.every else ())


def memory(c: Any, nets: Any) -> Tree:
  """The queue {'params', 'stats'}: by stack [K,n,...]; 'entries': how many there were, int32."""
  shapes = {m.stack.name: stacks.shapes(m.stack) for m in nets["networks"]}
  place = lambda x: np.zeros((c.method.prevmatch.queue, *x.shape), x.dtype)
  params, stats = ({k: jax.tree.map(place, v[i]) for k, v in shapes.items()} for i in (0, 1))
  return {"params": params, "stats": stats, "entries": np.zeros((), np.int32)}


def every(c: Any) -> int:
  """Returns the updates between two entries."""
  return c.method.prevmatch.every


def after(c: Any, t: Any, params: Tree, stats: Tree, memory: Tree) -> Tree:
  """Enters the networks in the place of the oldest."""
  at = memory["entries"] % c.method.prevmatch.queue
  enter = lambda queue, now: jax.tree.map(
    lambda q, x: q.at[at].set(x), queue, {name: now[name] for name in queue}
  )
  queue = {"params": enter(memory["params"], params), "stats": enter(memory["stats"], stats)}
  return queue | {"entries": memory["entries"] + 1}


def loss(c: Any, s: Step) -> jax.Array:
  """L = (L_x + lambda S + lambda_t S_prev) / (2 + lambda_t)."""
  o, n = c.method.prevmatch, float(s.copies("networks"))
  share = lambda L_s, L_fp: o.feature_share * L_fp + (1 - o.feature_share) * L_s
  P, T, boxes = unimatch.passes(c, s, o.feature_p)
  L_x = s.supervised(P["labeled"], s.y("labeled")).sum()
  taught = weak_to_strong.teach(c, s, T, boxes)
  S = share(*unimatch.terms(c, s, P, *taught, c.method.threshold))
  s.log("unlabeled", S, n)
  if "previous" not in s.phase:
    return (L_x + s.weight() * S) / 2
  taught = weak_to_strong.targets(c, s, _previous(c, s), boxes)
  term = _averaged if o.weighting == "confidence" else weak_to_strong.term
  S_prev = share(*unimatch.terms(c, s, P, *taught, o.threshold_previous, term))
  lambda_t = 1 - jnp.abs(2 * s.course() - 1)
  s.log("previous", S_prev, n)
  s.log("previous_weight", lambda_t)
  return (L_x + s.weight() * S + lambda_t * S_prev) / (2 + lambda_t)


def _previous(c: Any, s: Step) -> dict[str, jax.Array]:
  """P_prev [N,B,H,W,C] of weak views and of their partners."""
  o, queue, run = c.method.prevmatch, s.memory, s.pure("networks")
  u = s.u("previous", WEAK, (1 + o.queue + o.models,))[0]
  filled = jnp.minimum(queue["entries"], o.queue)
  places, a = draw_ensemble(u, filled, places=o.queue, most=o.models, random_number=o.random_models)
  s.log("previous_networks", (a > 0).sum())
  x, P = {WEAK: s.x(WEAK)} | weak_to_strong.partners(c, s), {}
  for i in range(o.models):
    f = jax.tree.map(lambda q, i=i: q[places[i]], {k: queue[k] for k in ("params", "stats")})
    logits = run(x, f["params"], f["stats"], bn="eval", grad=False)
    P = {name: P.get(name, 0) + a[i].astype(p.dtype) * p for name, p in logits.items()}
  return P


def _averaged(c: Any, s: Step, P: jax.Array, Y: confidence.Taught, tau: float) -> jax.Array:
  """The term of `weighting='confidence'`, summed over the networks; it has no tau."""
  published = "summed_confidence" in c.method.compat
  groups = s.groups(s.y("labeled"))
  return mean_of_pools([confidence.averaged_cross_entropy_sums(P, Y, groups, published)])
