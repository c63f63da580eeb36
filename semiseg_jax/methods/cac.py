"""CAC: Directional Context-aware Consistency (Lai et al., CVPR 2021, arXiv 2106.14133).

Two overlapping crops x_1, x_2 of an unlabeled picture, each with strong colors of its own, go
through the network one after the other.  Of a pixel of their features phi is the projection of unit
length, y~ and C are the class and its probability.

    L     = CE(P, y) + lambda (l_1 + l_2)          from step `start` on, CE alone before
    l_1   = 1/|M_1| sum_{i in M_1} -log r(phi_1i, phi_2i)
    r(a, b) = e(a, b) / (e(a, b) + sum_n [y~_n != y~_a] e(a, phi_n)),   e(a, b) = exp(a . b / tau)
    M_1   = {i in the overlap: C_2i > gamma and C_1i < C_2i}

l_2 is l_1 with the crops in each other's place.  Only the anchor a has a gradient; the class of a
negative phi_n differs from the anchor's own.  Negatives are pixels of both crops in the last `bank`
steps, the epsilons of the released code are kept (ops/directional.py).  `loss_group` pictures share
the means and draw their negatives together, the negatives of all groups are compared.

y~ and C are those of a classifier without dropout where the head gives its logits.  Left out: the
variant with image labels, which the release does not have either.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.data.augment.pairs import STRIDE
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.directional import Pixels, classified, directional_contrast
from semiseg_jax.ops.resize import resize_bilinear, resize_nearest
from semiseg_jax.ops.step_bank import Bank, empty_bank
from semiseg_jax.options import key

# 'dropped_labels': the dropout before the classifier is active while it gives y~ and C.
COMPAT = ("dropped_labels",)
CROPS = ("unlabeled", "unlabeled_2")
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.cac`."""

  start: int = key(5785, "first step with unlabeled pictures; 5 epochs of 1157 steps", at_least=0)
  temperature: float = key(0.1, "tau", above=0)
  threshold: float = key(0.75, "gamma: of the probability of targets", at_least=0, below=1)
  negatives: int = key(
    1600, "pixels of a crop that become negatives; published: all, 40x40 of 320x320", at_least=1
  )
  bank: int = key(2, "steps whose pixels are negatives, this one among them", at_least=1)
  block: int = key(2048, "negatives that are compared at a time; memory grows with it", at_least=1)


def rules(c: Any) -> list[str]:
  """Embeddings of unit length, of networks of one kind; groups of a size."""
  o, kind, family, steps = c.method.cac, c.model.projection.kind, c.model.family, c.train.steps
  wrong = {
    "model.projection.kind='none': cac needs embeddings, e.g. 'cac'.": kind == "none",
    f"model.projection.kind={kind!r}: cac needs unit length, e.g. 'cac'.": kind in ("reco", "u2pl"),
    f"model.backbone={c.model.backbone!r}: cac matches crops on a grid of {STRIDE} pixels, which "
    "patches of 14 do not fit; choose another backbone.": c.model.backbone.startswith("dinov2"),
    f"model.family={family}: cac takes networks of one kind; set it to ().": bool(family),
    f"method.cac.start={o.start}: below train.steps={steps}, or no step sees unlabeled pictures.": (
      o.start >= steps
    ),
  }
  return uneven_groups(c) + [line for line, broken in wrong.items() if broken]


def streams(c: Any) -> list[Stream]:
  """Labeled pictures, and pairs of crops of unlabeled ones."""
  return [labeled(c), unlabeled(c, view="pair", strong=1)]


def nets(c: Any) -> list[Net]:
  """N networks with a projection head; published: one."""
  return [Net("networks", c.method.networks)]


def phase(c: Any, t: int) -> frozenset[str]:
  """'contrast': unlabeled pictures take part."""
  return frozenset({"contrast"} if t >= c.method.cac.start else ())


def memory(c: Any, nets: Any) -> Bank:
  """Empty banks of each network."""
  o, network = c.method.cac, nets["networks"][0].stack.network
  rows = len(CROPS) * c.train.batch_unlabeled * o.negatives
  return empty_bank(c.method.networks, o.bank, rows, network.projection.width)


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE + lambda (l_1 + l_2)."""
  x = {"labeled": s.x("labeled")}
  if "contrast" in s.phase:
    x |= {name: s.x(name, strong=1) for name in CROPS}
  P = s.net("networks", x)["labeled"]
  L = s.supervised(P, s.y("labeled")).sum()
  return L + s.weight() * _contrast(c, s).sum() if "contrast" in s.phase else L


def _contrast(c: Any, s: Step) -> jax.Array:
  """Returns l_1 + l_2 [N], and puts the pixels of this step into the banks."""
  o, groups, first = c.method.cac, s.groups(s.y("labeled")), CROPS[0]
  size = s.y(first).shape[1:]
  crops = [pixels(c, s, s.seen["networks"][name]) for name in CROPS]
  n, B, *grid = crops[0].y.shape
  run = functools.partial(
    directional_contrast,
    stride=stride(size, tuple(grid)),
    groups=groups,
    number=o.negatives * B // groups,
    **{name: o[name] for name in ("temperature", "threshold", "block")},
  )
  u = tuple(s.u("negatives", name, tuple(grid), copies=n) for name in CROPS)
  contrast = jax.vmap(run, (0, 0, None, 0, 0))(*crops, s.geometry(first), s.memory, u)
  s.memory = contrast.bank
  for k in (0, 1):
    s.log(f"contrast_{k + 1}", contrast.loss[:, k].sum(), float(n))
  s.log("positives", contrast.positives.sum(), 2 * contrast.overlap.sum())
  for name, of in zip(CROPS, crops):
    sure = jnp.where(of.p > o.threshold, of.y, IGNORE)
    s.teaches(name, s.hide_padding(name, resize_nearest(sure, size)), first)
  Y = s.hide_padding(first, resize_nearest(crops[0].y, size))
  s.health(Y, s.y(first), s.seen["networks"]["labeled"]["logits"].shape[-1])
  s.show("pseudo", Y)
  return contrast.loss.sum(1)


def pixels(c: Any, s: Step, maps: dict[str, jax.Array]) -> Pixels:
  """The pixels of a crop [N,B,h,w] with classes of its logits, at the stride of the embeddings."""
  E, quirk = maps["embedding"], "dropped_labels" in c.method.compat
  P = maps.get("logits_pooled" if quirk else "logits_undropped", maps["logits"])
  resize = functools.partial(resize_bilinear, align_corners=s.align_corners("networks"))
  return classified(E, resize(P, E.shape[2:4]))


def stride(size: tuple[int, int], grid: tuple[int, int]) -> int:
  """Pixels of a crop for one of its embeddings.

  Raises:
    ConfigError: crops that lie on a grid of 8 pixels cannot be matched on this one.
  """
  side = max(1, size[0] // grid[0])
  if STRIDE % side or any(n * side != whole for n, whole in zip(grid, size)):
    raise ConfigError(
      f"cac matches crops on a grid of {STRIDE} pixels, and a crop of {size} has {grid} embeddings:"
      f" choose backbone, head and projection so that there is one for 1, 2, 4 or {STRIDE} pixels."
    )
  return side
