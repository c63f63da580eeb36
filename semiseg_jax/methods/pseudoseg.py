"""PseudoSeg (Zou, Zhang, Zhang, Li, Bian, Huang, Pfister, ICLR 2021, arXiv 2010.09713).

    M_c = relu(sum_k w_ck A_k) over its maximum, w_ck = mean of d z_c / d A_k     Grad-CAM, sg
          0 for a class that is not in the picture (unlabeled: z_c < 0)
    a   = BN(W [2 - max_c R_c; R]), R = softmax(Q K^T / sqrt(D)) M + M            attention
    p   = gamma softmax(d / rms) + (1 - gamma) softmax(a / rms)                   fusion of w, sg
    p~  = p^(1/T) / sum_c p_c^(1/T)
    L_u = sum v CE(f(s), p~) / sum v
    L   = CE(f(x), y) + CE(a(x), y) + BCE(z(x), y) + lambda L_u

x: labeled; w, s: weak and strong view; z: classes of a picture, linear in the mean of A, the last
feature; Q, K: linear in sg F, the last two features; d = f(w); rms: root of the mean square of d
and a together; v: neither padding nor CutOut's hole.  gamma = T = 1/2, lambda = 1.

Source: the released code.  M and F of w are of evaluation mode; w, s and x have their own batch
statistics; L_u has the stride of the head.  The release passes x once more for z, which moves its
running statistics twice.  `image_labels='stored'` (there: weakly): the classes of unlabeled crops
are known, from `data.targets`, and BCE is of w.

BCE is of pictures with a labeled pixel.  A stored map with ignored pixels says which classes are
there, not which are absent.

Ours: attention on w sees what CutOut hides from s (COMPAT); means and rms are of the whole batch,
where the release has one per GPU (`loss_group`); data may have no background: a = BN(W R).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import class_attention, shared
from semiseg_jax.methods.class_attention import attended, classified
from semiseg_jax.methods.contract import Net, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops import class_maps, fusion
from semiseg_jax.ops.cutmix import square_masks
from semiseg_jax.ops.losses import cross_entropy, mean_of_pools
from semiseg_jax.ops.resize import resize_bilinear, resize_nearest
from semiseg_jax.options import key

WEAK = "unlabeled"
TEACHES = True
COMPAT = ("hole_unattended",)  # attention on w does not see what CutOut hides from s


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.pseudoseg`."""

  share: float = key(0.5, "gamma: of the decoder in the fusion", at_least=0, at_most=1)
  temperature: float = key(0.5, "T: below 1 sharpens the pseudo labels", above=0)
  width: int = key(128, "D: channels of keys and queries", at_least=1)
  cutout: int = key(100, "pixels of a side of the hole in strong views; 0 = none", at_least=0)
  background: bool = key(True, "class 0 is what no other class is; False: there is no such class")
  image_labels: str = key(
    "predicted",
    "classes of unlabeled crops; 'stored': those that are in their maps of data.targets",
    one_of=("predicted", "stored"),
  )


def rules(c: Any) -> list[str]:
  """Networks of one kind, even groups, stored labels where they are asked for."""
  stored = c.method.pseudoseg.image_labels == "stored"
  lines = uneven_groups(c)
  if c.model.family:
    lines.append(f"model.family={c.model.family}: PseudoSeg takes one kind; set it to ().")
  if stored and not c.data.targets:
    lines.append("method.pseudoseg.image_labels='stored' needs a folder data.targets.")
  return lines


def divisible(c: Any) -> bool:
  """Parts of a batch share nothing: groups of pictures."""
  return bool(c.method.loss_group)


def streams(c: Any) -> list[Stream]:
  """Labeled pictures, and unlabeled ones with a strong view."""
  stored = c.method.pseudoseg.image_labels == "stored"
  return [labeled(c), unlabeled(c, WEAK, strong=1, targets=stored)]


def nets(c: Any) -> list[Net]:
  """N networks (published: one), each with a classifier and an attention under its optimizer."""
  o, n = c.method.pseudoseg, c.method.networks
  return [Net("networks", n), *class_attention.nets(n, o.width, o.background)]


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE(f(x), y) + CE(a(x), y) + BCE(z, y) + lambda L_u."""
  o, y, n = c.method.pseudoseg, s.y("labeled"), float(s.copies("networks"))
  L_u, L_z = _unlabeled(c, s)
  e = s.encode("networks", {"labeled": s.x("labeled")})
  P = s.decode("networks", e)["labeled"]
  z, M = classified(s, "labeled", e["labeled"])
  known = class_maps.image_labels(y, P.shape[-1], o.background)
  if o.image_labels == "predicted":
    taught = class_maps.known_labels(y, known)
    L_z = fusion.binary_cross_entropy(z, known, taught, s.groups(y)).sum()
  a = attended(s, "labeled", e["labeled"], M, known[None], s.inside("labeled"))
  a = resize_bilinear(a, y.shape[1:], s.align_corners("networks"))
  Y = jnp.broadcast_to(y[None], a.shape[:-1])
  L_a = cross_entropy(a, Y, group=c.method.loss_group)[0].sum()
  for name, value in {"consistency": L_u, "attention": L_a, "classifier": L_z}.items():
    s.log(name, value, n)
  return s.supervised(P, y).sum() + L_a + L_z + s.weight() * L_u


def _unlabeled(c: Any, s: Step) -> tuple[jax.Array, jax.Array]:
  """L_u, and BCE of w where its classes are known, else 0; both summed over the networks."""
  o, x, L_z, groups = c.method.pseudoseg, {WEAK: s.x(WEAK)}, 0.0, s.groups(s.y("labeled"))
  stored = o.image_labels == "stored"
  e = s.encode("networks", x, bn="eval", grad=False)[WEAK]
  z, M = classified(s, WEAK, e, grad=False)
  present = (z >= 0).astype(z.dtype)
  e_train = s.encode("networks", x, grad=stored)
  d = s.decode("networks", e_train, grad=False, out="head")[WEAK]
  if stored:
    known = class_maps.image_labels(s.target(WEAK), d.shape[-1], o.background)
    z, present = classified(s, WEAK, e_train[WEAK])[0], known[None]
    taught = class_maps.known_labels(s.target(WEAK), known, s.inside(WEAK))
    L_z = fusion.binary_cross_entropy(z, known, taught, groups).sum()
  x_s, v = _strong(c, s)
  seen = v if "hole_unattended" in c.method.compat else s.inside(WEAK)
  a = attended(s, WEAK, e, M, present, seen, grad=False)
  a = resize_bilinear(a, d.shape[2:4], s.align_corners("networks"))
  p = fusion.calibrated_fusion(d, a, share=o.share, temperature=o.temperature, groups=groups)
  P = s.net("networks", {"strong": x_s}, out="head")["strong"]
  v = resize_nearest(v, d.shape[2:4])
  s.teaches("strong", jnp.where(v[None], p.argmax(-1), IGNORE), WEAK)
  s.log("present_classes", present.sum(), float(present.shape[0] * present.shape[1]))
  _watch(s, p, v)
  return mean_of_pools([fusion.soft_cross_entropy_sums(P, p, v, groups)]), L_z


def _strong(c: Any, s: Step) -> tuple[jax.Array, jax.Array]:
  """s with CutOut's hole in the mean color, and v at full size, bool [B,H,W]."""
  x, v = s.x(WEAK, strong=1), s.inside(WEAK)
  u, (height, width), side = s.u("cutout", WEAK, (2,)), x.shape[1:3], c.method.pseudoseg.cutout
  hole = square_masks(u, height=height, width=width, side=side)
  x = jnp.where(hole[..., None], 0, x)
  s.show("strong", x)
  return x, v & ~hole


def _watch(s: Step, p: jax.Array, v: jax.Array) -> None:
  """Logs and shows the classes of the pseudo labels."""
  Y, truth = jnp.where(v[None], p.argmax(-1), IGNORE).astype(jnp.uint8), s.y(WEAK)
  s.health(Y, resize_nearest(truth, v.shape[1:]), p.shape[-1])
  s.show("pseudo", jnp.stack([resize_nearest(one, truth.shape[1:]) for one in Y]))
