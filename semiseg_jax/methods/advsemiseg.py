"""AdvSemiSeg (Hung, Tsai, Liou, Lin, Yang, BMVC 2018, arXiv 1802.07934).

A discriminator D judges every region of a class map: ground truth (1) or prediction (0).  With
p = softmax S(x), d(.) the map of D at full size and BCE(z, t) = softplus(z) - t z:

    L_S = CE(p_l, y) + l_lab BCE(d(p_l), 1) + l_unl BCE(d(p_u), 1)
          + l_semi CE(p_u, argmax p_u) where sigmoid(d(p_u)) >= T
    L_D = 1/2 BCE(d(p_l) and d(p_u), 0) + 1/2 BCE(d(onehot y), 1)

Both are minimized in one step: S against the D of before, D on predictions without gradient.  S
sees the unlabeled pictures first.  Ignored pixels of labels take part nowhere.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, unlabeled
from semiseg_jax.methods.optimizer import Optimizer
from semiseg_jax.methods.step import Step
from semiseg_jax.models.critics.discriminators import WIDTHS, PixelDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.ops.adversarial import mean_bce, one_hot_map
from semiseg_jax.ops.losses import cross_entropy
from semiseg_jax.options import key

# 'drop_adversarial': where D keeps no pixel, the term l_unl is dropped as well.
# 'unlabeled_padding': padding of unlabeled pictures takes part like any pixel.
COMPAT = ("drop_adversarial", "unlabeled_padding")
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """The config block `method.advsemiseg`."""

  weight_labeled: float = key(0.01, "l_lab: of fooling D, on labeled pictures", at_least=0)
  weight_unlabeled: float = key(0.001, "l_unl: the same on unlabeled pictures", at_least=0)
  weight_semi: float = key(0.1, "l_semi: of self-training; 0 = none", at_least=0)
  threshold: float = key(0.2, "T: of D's probability, for self-training", at_least=0, below=1)
  adversarial_start: int = key(0, "first step of l_unl", at_least=0)
  semi_start: int = key(
    5000, "first step of l_semi; before both no unlabeled picture is seen", at_least=0
  )
  judge_unlabeled: bool = key(True, "D is trained on predictions of unlabeled pictures too")
  widths: tuple[int, ...] = key(WIDTHS, "channels of D's layers but the last", above=0)
  learning_rate: float = key(1e-4, "of D's Adam, under the schedule of the networks", above=0)
  betas: tuple[float, float] = key((0.9, 0.99), "of D's Adam", at_least=0, below=1, length=(2,))


def streams(c: Any) -> list[Stream]:
  """Pictures for S, and other labels without padding as ground truth for D."""
  return [labeled(c), unlabeled(c), labeled(c, "ground_truth", view="filled")]


def nets(c: Any) -> list[Net]:
  """N segmentation networks S, each with its discriminator D."""
  n, o = c.method.networks, c.method.advsemiseg
  discriminator = lambda S: Single(PixelDiscriminator(tuple(o.widths)), S.num_classes, S.dtype)
  adam = Optimizer("adam", o.learning_rate, weight_decay=0.0, betas=tuple(o.betas))
  critic = Net("discriminator", n, "critic", network=discriminator, optimizer=adam)
  return [Net("networks", n), critic]


def phase(c: Any, t: int) -> frozenset[str]:
  """'adversarial': l_unl takes part; 'semi': l_semi."""
  o = c.method.advsemiseg
  starts = {
    "adversarial": t >= o.adversarial_start,
    "semi": t >= o.semi_start and o.weight_semi > 0,
  }
  return frozenset(name for name, started in starts.items() if started)


def loss(c: Any, s: Step) -> jax.Array:
  """L_S + L_D."""
  o, y = c.method.advsemiseg, s.y("labeled")
  names = ("unlabeled", "labeled") if s.phase else ("labeled",)
  P = s.net("networks", {name: s.x(name) for name in names})
  p = {name: jax.nn.softmax(P[name], axis=-1) for name in names}
  d = _judged(s, p, frozen=True)
  valid = {"labeled": y != IGNORE, "unlabeled": s.inside("unlabeled", unless="unlabeled_padding")}
  n = float(len(P["labeled"]))

  supervised = s.supervised(P["labeled"], y)
  adversarial = mean_bce([(d["labeled"], valid["labeled"])], 1)
  s.log("adversarial_labeled", adversarial.sum(), n)
  total = supervised + o.weight_labeled * adversarial
  if s.phase:
    total = total + on_unlabeled(c, s, P["unlabeled"], d["unlabeled"], valid["unlabeled"])

  fakes = names if o.judge_unlabeled else ("labeled",)
  truth = s.y("ground_truth")
  maps = {name: jax.lax.stop_gradient(p[name]) for name in fakes}
  maps["ground_truth"] = one_hot_map(truth, p["labeled"].shape[-1], P["labeled"].dtype)
  d = _judged(s, maps, frozen=False)
  fake = mean_bce([(d[name], valid[name]) for name in fakes], 0)
  real = mean_bce([(d["ground_truth"], truth != IGNORE)], 1)
  s.log("discriminator", (fake + real).sum() / 2, n)
  return (total + (fake + real) / 2).sum()


def _judged(s: Step, maps: dict[str, jax.Array], frozen: bool) -> dict[str, jax.Array]:
  """d of class maps [(N,)B,H,W,C] by stream: [N,B,H,W]."""
  judged = s.net("discriminator", maps, bn="eval", frozen=frozen)
  return {name: d[..., 0] for name, d in judged.items()}


def on_unlabeled(c: Any, s: Step, P: jax.Array, d: jax.Array, inside: jax.Array) -> jax.Array:
  """Returns l_unl BCE + l_semi CE of the unlabeled pictures [N], as the phase has them."""
  o, n, total = c.method.advsemiseg, float(len(P)), jnp.zeros(len(P), P.dtype)
  kept = (jax.nn.sigmoid(jax.lax.stop_gradient(d)) >= o.threshold) & inside[None]
  s.show("kept", kept)
  s.show("pseudo", P.argmax(-1))
  if "adversarial" in s.phase:
    adversarial = mean_bce([(d, inside)], 1)
    s.log("adversarial_unlabeled", adversarial.sum(), n)
    if "semi" in s.phase and "drop_adversarial" in c.method.compat:
      adversarial = jnp.where(kept.any((1, 2, 3)), adversarial, 0)
    total += o.weight_unlabeled * adversarial
  if "semi" in s.phase:
    Y = jnp.where(kept, P.argmax(-1), IGNORE).astype(jnp.uint8)
    semi, _ = cross_entropy(P, Y)
    s.log("semi", semi.sum(), n)
    s.teaches("unlabeled", Y)
    s.health(Y, s.y("unlabeled"), P.shape[-1])
    total += o.weight_semi * semi
  return total
