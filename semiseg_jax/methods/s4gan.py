"""s4GAN (Mittal, Tatarchenko, Brox, TPAMI 2021, arXiv 1908.05724), without its classifier.

A discriminator D judges a whole picture together with its class map: it gives a logit z of "ground
truth" and a feature f.  With p = softmax S(x), the unlabeled pictures x_u, labeled ones x_g, y_g of
a stream of their own, n(.) a picture in [0, 1] and BCE(z, t) = softplus(z) - t z:

    z_u, f_u = D([p_u; n(x_u)])            z_g, f_g = D([onehot y_g; n(x_g)])
    L_fm = mean over the K channels of |mean_b f_g - mean_b f_u|
    L_st = CE(p_u, argmax p_u) on the whole pictures with sigmoid(z_u) > tau
    L_S  = CE(p_l, y_l) + lambda_fm L_fm + lambda_st L_st
    L_D  = 1/2 mean BCE(z_u, 0) + 1/2 mean BCE(z_g, 1)

Both are minimized in one step: S against the D of before, D on predictions without gradient.  S
sees the labeled pictures first.  D drops channels wherever it is called, with other masks in each
of its four passes, so that the scores which choose pictures are noisy.  S is never taught to fool
D by its score.
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
from semiseg_jax.models.critics.discriminators import DROPOUT, WIDTHS, ImageDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.ops import adversarial
from semiseg_jax.ops.losses import cross_entropy
from semiseg_jax.options import key

# 'labeled_extent': n(x_g) divides by max x_l - min x_l, of the pictures of the cross entropy.
# 'unlabeled_padding': padding of unlabeled pictures gets pseudo labels like any pixel.
COMPAT = ("labeled_extent", "unlabeled_padding")
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """The config block `method.s4gan`."""

  weight_matching: float = key(0.1, "lambda_fm: of matching D's features", at_least=0)
  weight_self_training: float = key(1.0, "lambda_st: of own labels; 0 = none", at_least=0)
  threshold: float = key(
    0.6, "tau: pictures with a higher score teach; Cityscapes: 0.7", at_least=0, below=1
  )
  self_training_start: int = key(1, "first step of lambda_st", at_least=0)
  picture_range: str = key(
    "batch",
    "n: by the smallest and largest value of the global batch of a stream; 'data': of all 8 bits",
    one_of=("batch", "data"),
  )
  dropout: float = key(DROPOUT, "share of D's channels that are dropped", at_least=0, below=1)
  widths: tuple[int, ...] = key(WIDTHS, "channels of D's layers, the last K", above=0)
  learning_rate: float = key(1e-4, "of D's Adam, under the schedule of the networks", above=0)
  betas: tuple[float, float] = key((0.9, 0.99), "of D's Adam", at_least=0, below=1, length=(2,))


def rules(c: Any) -> list[str]:
  """Crops of which D leaves something; a quirk of a range that is taken."""
  o, crop, quirks = c.method.s4gan, tuple(c.data.crop), c.method.compat
  side = 2 ** len(o.widths)
  wrong = {
    f"data.crop={crop}: each of the {len(o.widths)} method.s4gan.widths halves it; {side} or more, "
    "or fewer widths.": min(crop) < side,
    f"method.compat={quirks}: 'labeled_extent' needs method.s4gan.picture_range='batch'.": (
      "labeled_extent" in quirks and o.picture_range != "batch"
    ),
  }
  return [line for line, broken in wrong.items() if broken]


def divisible(c: Any) -> bool:
  """No: feature matching compares means over the batch."""
  return False


def streams(c: Any) -> list[Stream]:
  """Pictures for S, and other labeled pictures with their labels for D."""
  return [labeled(c), unlabeled(c), labeled(c, "real")]


def nets(c: Any) -> list[Net]:
  """N segmentation networks S, each with its discriminator D."""
  n, o = c.method.networks, c.method.s4gan
  module = ImageDiscriminator(o.dropout, tuple(o.widths))
  discriminator = lambda S: Single(module, S.num_classes + S.in_channels, S.dtype)
  adam = Optimizer("adam", o.learning_rate, weight_decay=0.0, betas=tuple(o.betas))
  critic = Net("discriminator", n, "critic", network=discriminator, optimizer=adam)
  return [Net("networks", n), critic]


def phase(c: Any, t: int) -> frozenset[str]:
  """'self_training': lambda_st takes part."""
  o = c.method.s4gan
  started = t >= o.self_training_start and o.weight_self_training > 0
  return frozenset({"self_training"} if started else ())


def loss(c: Any, s: Step) -> jax.Array:
  """L_S + L_D."""
  o, n = c.method.s4gan, float(s.copies("networks"))
  P = s.net("networks", {name: s.x(name) for name in ("labeled", "unlabeled")})
  p = jax.nn.softmax(P["unlabeled"], axis=-1)
  y = adversarial.one_hot_map(s.y("real"), p.shape[-1], p.dtype)
  maps = {"unlabeled": p, "real": jnp.broadcast_to(y[None], (len(p), *y.shape))}
  seen = {name: adversarial.with_pictures(M, unit_pictures(c, s, name)) for name, M in maps.items()}

  D = s.net("discriminator", seen, frozen=True, out="all")
  matching = adversarial.feature_matching(*(D[name]["features"] for name in ("real", "unlabeled")))
  s.log("feature_matching", matching.sum(), n)
  total = s.supervised(P["labeled"], s.y("labeled")) + o.weight_matching * matching
  total += self_training(c, s, P["unlabeled"], D["unlabeled"]["logits"][..., 0])

  D = s.net("discriminator", jax.lax.stop_gradient(seen), out="all")
  for name, target in (("unlabeled", 0), ("real", 1)):
    z = D[name]["logits"][..., 0]
    bce = adversarial.mean_bce([(z, jnp.ones(z.shape[1:], bool))], target)
    s.log(f"discriminator_{target}", bce.sum(), n)
    total += bce / 2
  return total.sum()


def unit_pictures(c: Any, s: Step, stream: str) -> jax.Array:
  """Returns n(x) [B,H,W,K] of the pictures of a stream."""
  x = s.x(stream)
  if c.method.s4gan.picture_range == "data":
    ends = [[(end - m) / d for m, d in zip(c.data.mean, c.data.std)] for end in (0, 1)]
    return adversarial.in_unit_range(x, min(ends[0]), max(ends[1]) - min(ends[0]))
  quirk = stream == "real" and "labeled_extent" in c.method.compat
  measured = s.x("labeled") if quirk else x
  return adversarial.in_unit_range(x, x.min(), measured.max() - measured.min())


def self_training(c: Any, s: Step, P: jax.Array, z: jax.Array) -> jax.Array:
  """Returns lambda_st L_st [N] of logits [N,B,H,W,C] of pictures that D gave z [N,B,1,1]."""
  o, score = c.method.s4gan, jax.nn.sigmoid(jax.lax.stop_gradient(z))
  kept = score > o.threshold
  s.log("score", score.sum(), float(score.size))
  s.log("kept_pictures", kept.sum(), float(kept.size))
  Y = jnp.where(kept, P.argmax(-1), IGNORE).astype(jnp.uint8)
  Y = s.hide_padding("unlabeled", Y, unless="unlabeled_padding")
  s.show("pseudo", Y)
  if "self_training" not in s.phase:
    return jnp.zeros(len(P), P.dtype)
  s.teaches("unlabeled", Y)
  s.health(Y, s.y("unlabeled"), P.shape[-1])
  loss, _ = cross_entropy(P, Y)
  s.log("self_training", loss.sum(), float(len(P)))
  return o.weight_self_training * loss
