"""CCT: cross-consistency training (Ouali, Hudelot, Tami, CVPR 2020, arXiv 2003.09005).

    h   = e(x_u)                        features that the main decoder g sees
    y   = sg softmax g(h)
    a_k = softmax g_k(P_k(h))           auxiliary decoders, k = 1 .. K; P_k: a perturbation of h
    L_s = CE(g(e(x_l)), y_l)                                          or its annealed form, ab-CE
    L_u = 1/K sum_k mean d(a_k, y)      over pixels and classes, d the squared distance
    L   = L_s + lambda r(t) L_u         r: 'sigmoid'

    P_k: I-VAT h + r, r adversarial to g_k; DropOut of channels; G-Cutout, Con-Msk, Obj-Msk: a part
    of each object, all but objects, or objects are erased, as argmax y has them; F-Drop: the most
    active places are; F-Noise h (1 + N).

L_u trains e and the g_k, never g: y and g's masks take no gradient.  Labeled and unlabeled pictures
have batch statistics of their own.  Only g(e(x)) is evaluated.

The K decoders are run one by one, and once more for the gradient, so that memory does not grow with
K.  A head's 'features' are h: those of pyramid pooling in the published network.  The decoders
double the size as often as h asks for.

As released: one N and one share of F-Drop for the whole batch.  Ours: xi = 1e-2 in I-VAT, as r is
almost 0 with the published 1e-6; objects of G-Cutout are connected regions on the grid of h;
`background` names the classes that are no object; padding is not compared.  The pairwise term, off
by default, trains; in the release it is logged alone.  Left out: image-level labels.
"""

import dataclasses
import math
from typing import Any

import jax

from semiseg_jax.methods import auxiliary_decoders, shared
from semiseg_jax.methods.auxiliary_decoders import AUXILIARY, KINDS
from semiseg_jax.methods.contract import Net, Stream, labeled, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.heads.pspnet import SubPixelDecoder
from semiseg_jax.models.network import Network
from semiseg_jax.ops.losses import annealed_threshold, bootstrapped_cross_entropy
from semiseg_jax.options import key

# 'consistency_padding': padding is compared like any pixel.  'contours': objects of G-Cutout are
# outlines of more than 50 vertices, found by OpenCV on the host.  'reversed_js': the mixture stands
# first in both terms of 'js'.  'masked_kl': with `confidence` the sum over classes in 'kl', divided
# by all pixels.
COMPAT = ("consistency_padding", "contours", "reversed_js", "masked_kl")
RAMP = "sigmoid"
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.cct`."""

  vat: int = key(2, "decoders of I-VAT; each costs as three others", at_least=0)
  dropout: int = key(6, "decoders of DropOut", at_least=0)
  cutout: int = key(6, "decoders of G-Cutout", at_least=0)
  context_masking: int = key(2, "decoders of Con-Msk: objects alone are left", at_least=0)
  object_masking: int = key(2, "decoders of Obj-Msk: all but objects is left", at_least=0)
  feature_drop: int = key(6, "decoders of F-Drop", at_least=0)
  feature_noise: int = key(6, "decoders of F-Noise", at_least=0)
  last_relu: bool = key(True, "logits of these decoders are never negative, as published")
  xi: float = key(1e-2, "of I-VAT: length of the first step; published 1e-6", above=0)
  length: float = key(2.0, "of I-VAT: length of r over a picture's features", above=0)
  dropout_p: float = key(0.5, "of DropOut: probability per channel", at_least=0, below=1)
  erase: float = key(0.4, "of G-Cutout: share of each side of a box", above=0, at_most=1)
  activity: tuple[float, float] = key(
    (0.7, 0.9),
    "of F-Drop: (lowest, highest) share of the largest activity that stays",
    above=0,
    at_most=1,
    rises=True,
    length=(2,),
  )
  noise: float = key(0.3, "of F-Noise: reach of N", at_least=0)
  background: tuple[int, ...] = key((0,), "classes that are no object", at_least=0)
  distance: str = key("mse", "d of probabilities", one_of=("mse", "kl", "js"))
  confidence: float = key(
    0.0, "pixels with no probability in y above it are not compared", at_least=0, below=1
  )
  pairwise: float = key(
    0.0, "weight in L_u of the variance of up to 8 decoders' predictions", at_least=0
  )
  annealed: bool = key(
    False, "L_s is ab-CE, annealed over 0.4 of the run", when={"supervised_loss": ("ce",)}
  )
  temperature: float = key(1.0, "logits in L_s are divided by it", above=0)


def rules(c: Any) -> list[str]:
  """One network, at least one decoder."""
  o, quirks = c.method.cct, c.method.compat
  wrong = {
    f"method.networks={c.method.networks}: CCT has 1 network.": c.method.networks != 1,
    f"method.cct: no auxiliary decoder; give one of {', '.join(KINDS)}.": not _number(c),
    f"method.compat={tuple(quirks)}: 'reversed_js' needs method.cct.distance='js'.": (
      "reversed_js" in quirks and o.distance != "js"
    ),
    f"method.compat={tuple(quirks)}: 'masked_kl' needs method.cct.distance='kl', confidence > 0.": (
      "masked_kl" in quirks and (o.distance != "kl" or not o.confidence)
    ),
  }
  return [line for line, broken in wrong.items() if broken]


def rules_of_classes(c: Any, classes: int) -> list[str]:
  """The background consists of classes that there are."""
  background = tuple(c.method.cct.background)
  if max(background, default=0) < classes:
    return []
  return [f"method.cct.background={background}: classes of the data set, 0 to {classes - 1}."]


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures."""
  return [labeled(c), unlabeled(c)]


def nets(c: Any) -> list[Net]:
  """e with g, and the g_k, under the optimizer of the run."""

  def decoder(S: Network) -> Single:
    stride, channels = S.output_info("features")
    doublings = max(0, math.ceil(math.log2(stride)))
    return Single(
      SubPixelDecoder(S.num_classes, doublings, c.method.cct.last_relu), channels, S.dtype
    )

  return [
    Net("networks", c.method.networks),
    Net(AUXILIARY, _number(c), "critic", network=decoder),
  ]


def divisible(c: Any) -> bool:
  """No: one draw of F-Drop and F-Noise, and the means of L_u, are of the whole batch."""
  return False


def _number(c: Any) -> int:
  """K."""
  return sum(c.method.cct[kind] for kind in KINDS)


def loss(c: Any, s: Step) -> jax.Array:
  """L = L_s + lambda r(t) L_u."""
  P = s.net("networks", {name: s.x(name) for name in ("labeled", "unlabeled")})
  h = s.seen["networks"]["unlabeled"]["features"][0]
  L_s = supervised(c, s, P["labeled"]).sum()
  L_u = auxiliary_decoders.cross_consistency(
    c.method.cct, s, h, jax.lax.stop_gradient(P["unlabeled"][0])
  )
  s.log("cross_consistency", L_u)
  s.log("consistency_weight", s.weight())
  return L_s + s.weight() * L_u


def supervised(c: Any, s: Step, P: jax.Array) -> jax.Array:
  """L_s [1]: cross entropy, or ab-CE."""
  o, y, own = c.method.cct, s.y("labeled"), None
  if o.annealed:
    a = annealed_threshold(s.t, int(0.4 * s.first_end), P.shape[-1])
    own = lambda P, y: bootstrapped_cross_entropy(P, y, a, group=c.method.loss_group)
  return s.supervised(P / o.temperature, y, own)
