"""Guided Collaborative Training (GCT; Ke et al., ECCV 2020, arXiv 2008.05258), as released.

Two task networks T_k see the same pictures; one flaw detector F (section 3.2) sees a picture and
p_k = softmax T_k(x), and predicts where that is wrong.

    f_k = F(x, p_k)          h_k: f_k >= 0, blurred, scaled to [0, 1]
    L_dc^k = mean of |p_k - sg p_j|^2 where h_k > h_j, unless both > xi    dynamic consistency
    L_fc^k = mean of f_k^2 where h_1 > xi and h_2 > xi, F frozen           flaw correction
    L_T^k  = CE(p_k, y) + lambda_fc L_fc^k + lambda r(t) L_dc^k
    L_F    = lambda_F / 2 sum_k mean (F(x_l, sg p_k) - C(mu |y - p_k|))^2  on labeled pictures

C spreads flaws (ops/flaws.py), |y - p_k| is a sum over classes, |p_k - p_j|^2 a mean over them.
Labeled pictures are in L_dc and L_fc as well.  All means are over all pixels, not over those that
take part.

PixelSSL passes T_k and F, builds targets, then steps T_1, T_2 and F in turn.  One step of all three
is the same, for all targets and h are of before, and F is frozen in L_T.  But a first pass of T_k,
with the values of the second, is left out: its running statistics move once a step, not twice; F's
move four times, as there.  Labeled and unlabeled pictures share batch statistics, as there.  The
port of the CPS authors steps F on predictions of after: not to be had here.

Open in paper or code, and decided here: padding takes no part in L_dc and L_fc; ignored pixels have
no flaw but stay in the mean of L_F; blurs follow the shorter side of the crop.
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
from semiseg_jax.models.critics.flaw_detector import WIDTHS, FlawDetector, map_side
from semiseg_jax.models.critics.single import Single
from semiseg_jax.ops import flaws
from semiseg_jax.ops.losses import cross_entropy_over_all
from semiseg_jax.options import key

# 'consistency_padding': padding takes part in L_dc and L_fc.  'ignored_flawed': ignored pixels have
# the flaw mu.  'negative_flawless': a network without flaws may count as better than that.
# 'clamped_flaws': L_F sees max(F, 0), its gradient passes as if it did not.
COMPAT = ("consistency_padding", "ignored_flawed", "negative_flawless", "clamped_flaws")
RAMP = "sigmoid"
TEACHES = True
CE = {"valid_pixels": None, "all_pixels": cross_entropy_over_all}  # there ignored pixels count 0


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.gct`."""

  weight_correction: float = key(1.0, "lambda_fc: of flaw correction; not ramped", at_least=0)
  weight_detector: float = key(10.0, "lambda_F: of the flaw detector's loss", above=0)
  threshold: float = key(0.6, "xi: flaws above it are bad", at_least=0, below=1)
  mu: float = key(0.5, "of the flaw that F learns, mu |y - p|", above=0)
  nu: int = key(1, "how often C dilates and blurs flaws once more", at_least=0)
  widths: tuple[int, ...] = key(WIDTHS, "even channels of F, halving sides", above=0)
  learning_rate: float = key(1e-4, "of F's Adam, under the schedule of the networks", above=0)
  betas: tuple[float, float] = key((0.9, 0.99), "of F's Adam", at_least=0, below=1, length=(2,))
  ce_mean: str = key(
    "valid_pixels", "'all_pixels': PixelSSL's", one_of=CE, when={"supervised_loss": ("ce",)}
  )


def rules(c: Any) -> list[str]:
  """Exactly two networks; crops of which the flaw detector leaves something."""
  n, widths, crop = c.method.networks, tuple(c.method.gct.widths), tuple(c.data.crop)
  wrong = {
    f"method.networks={n}: GCT compares exactly 2 networks.": n != 2,
    f"method.gct.widths={widths}: they must be even.": any(width % 2 for width in widths),
    f"data.crop={crop}: too small for {len(widths)} method.gct.widths; shorten these.": map_side(
      min(crop), len(widths)
    )
    < 1,
  }
  return [line for line, broken in wrong.items() if broken]


def divisible(c: Any) -> bool:
  """No: consistency and correction are means over the pixels of the batch inside of pictures."""
  return False


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures."""
  return [labeled(c), unlabeled(c)]


def nets(c: Any) -> list[Net]:
  """Two task networks and the flaw detector of both."""
  o = c.method.gct
  detector = lambda T: Single(FlawDetector(tuple(o.widths)), T.in_channels + T.num_classes, T.dtype)
  adam = Optimizer("adam", o.learning_rate, weight_decay=0.0, betas=tuple(o.betas))
  critic = Net("flaw_detector", 1, "critic", network=detector, optimizer=adam)
  return [Net("networks", c.method.networks), critic]


def loss(c: Any, s: Step) -> jax.Array:
  """sum_k L_T^k + L_F."""
  o, y, x = c.method.gct, s.y("labeled"), {name: s.x(name) for name in ("labeled", "unlabeled")}
  P = s.net("networks", x, groups=[tuple(x)])
  p = {name: jax.nn.softmax(P[name], axis=-1) for name in x}
  f = _flaws(s, x, jax.lax.stop_gradient(p))["labeled"]
  detector = fitted(c, f, p["labeled"], y, min(y.shape[1:])).sum() / 2
  dc, fc = _collaborative(c, s, _flaws(s, x, p, frozen=True), p)
  supervised = s.supervised(P["labeled"], y, CE[o.ce_mean]).sum()
  s.log("consistency_weight", s.weight())
  s.log("flaw_detector", detector)
  taught = s.weight() * dc + o.weight_correction * fc
  return supervised + taught + o.weight_detector * detector


def _flaws(s: Step, x: dict, p: dict, frozen: bool = False) -> dict[str, jax.Array]:
  """f_k [2,B,H,W] by stream; the pictures of one network share batch statistics."""
  seen = {f"{k}/{name}": jnp.concatenate([x[name], p[name][k]], -1) for k in (0, 1) for name in x}
  groups = [[f"{k}/{name}" for name in x] for k in (0, 1)]
  f = s.net("flaw_detector", seen, groups=groups, frozen=frozen)
  return {name: jnp.concatenate([f[f"{k}/{name}"][..., 0] for k in (0, 1)]) for name in x}


def fitted(c: Any, f: jax.Array, p: jax.Array, y: jax.Array, side: int) -> jax.Array:
  """Returns mean (f_k - C(mu |y - p_k|))^2 [2] of f [2,B,H,W], p [2,B,H,W,C], y [B,H,W]."""
  o, quirk = c.method.gct, "ignored_flawed" in c.method.compat
  target = flaws.flaw_target(p, y, side=side, mu=o.mu, nu=o.nu, ignored_flawed=quirk)
  f = flaws.clamped(f) if "clamped_flaws" in c.method.compat else f
  return jnp.square(f - target).mean((1, 2, 3))


def _collaborative(c: Any, s: Step, f: dict, p: dict) -> tuple[jax.Array, jax.Array]:
  """Returns sum_k L_dc^k and sum_k L_fc^k."""
  dc, fc, pixels, quirk = 0.0, 0.0, 1e-9, "negative_flawless" in c.method.compat
  for name in p:
    inside = s.inside(name, unless="consistency_padding")
    h = flaws.handled(f[name], side=min(inside.shape[1:]), negative_flawless=quirk)
    learns, both_bad = flaws.exchange(h, c.method.gct.threshold, inside)
    dc += flaws.disagreement(p[name], learns).sum()
    fc += flaws.correction(f[name], both_bad).sum()
    pixels += inside.sum()
  Y = jnp.where(learns, p["unlabeled"][::-1].argmax(-1), IGNORE)
  s.teaches("unlabeled", Y)
  s.health(Y, s.y("unlabeled"), p["unlabeled"].shape[-1])
  s.show("learns", learns)
  s.show("both bad", both_bad)
  s.log("consistency", dc, pixels)
  s.log("correction", fc, pixels)
  return dc / pixels, fc / pixels
