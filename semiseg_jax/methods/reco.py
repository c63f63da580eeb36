"""ReCo: Regional Contrast (Liu, Zhi, Johns, Davison, ICLR 2022, arXiv 2104.04465).

    q, y_u  = max, argmax softmax T(x_u)                   x_u only cropped
    x_u    <- scaled and cropped once more, mixed with the next picture (ClassMix), then mirrored
              and a strong view of it; y_u, q likewise, without colors
    L_u     = mean over pixels of w_b CE(S(x_u), y_u)      w_b: share of pixels of picture b with
              q >= delta_s
    L_reco  = 1/|C| sum_c mean_q -log e(q, mu_c) / (e(q, mu_c) + sum_k e(q, k))
              e(a, b) = exp(cos(r_a, r_b) / tau)
    L       = CE(S(x_l), y) + lambda L_u + lambda_r L_reco

Queries r_q are embeddings of pixels of class c of which the student is not sure (p_c < delta_s),
mu_c is the mean over the class, keys r_k are pixels of other classes, of classes whose mean is
nearer to mu_c more often.  Unlabeled pixels take part where q >= delta_w.
T is an average of the student's parameters that normalizes with its own batch; x_l is a strong view
too, and the student's passes on x_l and x_u have batch statistics of their own.

Padding of a scaled picture is its mirror image, and unlabeled; padding of the first crop is the
data's.  All pixels of a batch are one pool.  Left out: partial labels.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops import mixing, regional_contrast, rescale
from semiseg_jax.ops.consistency import ema_decay
from semiseg_jax.ops.contrast_pools import flat_labels, flat_maps
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.options import key

# 'eight_bits': q is rounded down to 255ths.  'positive_pixels': pixels of which the student is sure
# to the last bit are left out of the mean L_u.
COMPAT = ("eight_bits", "positive_pixels")
LOGS = ("contrast",)
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.reco`."""

  decay: float = key(0.99, "of the average, at most; 1 - 1/(t+1) before", at_least=0, below=1)
  scales: tuple[float, float] = key(
    (0.5, 1.5), "(lowest, highest) factor of unlabeled pictures", above=0, rises=True, length=(2,)
  )
  flip: float = key(0.5, "probability that they are mirrored once mixed", at_least=0, at_most=1)
  mix: str = key("classmix", "with the next picture; 'cutout': with nothing", one_of=mixing.KINDS)
  weak: float = key(0.7, "delta_w: confidence of unlabeled pixels in L_reco", at_least=0, at_most=1)
  strong: float = key(0.97, "delta_s: what is more probable is sure", above=0, at_most=1)
  weight_contrast: float = key(1.0, "lambda_r; a smaller one may help", at_least=0)
  temperature: float = key(0.5, "tau", above=0)
  queries: int = key(256, "of a class", at_least=1)
  negatives: int = key(512, "keys of a query", at_least=1)


def rules(c: Any) -> list[str]:
  """Embeddings of networks of one kind."""
  kind, family = c.model.projection.kind, c.model.family
  wrong = {
    "model.projection.kind='none': reco needs embeddings, e.g. 'reco'.": kind == "none",
    f"model.family={family}: reco takes networks of one kind; set it to ().": bool(family),
  }
  return [line for line, broken in wrong.items() if broken]


def streams(c: Any) -> list[Stream]:
  """Strong views of labeled and of unlabeled pictures, these without a scale of their own."""
  return [labeled(c, strong=1), unlabeled(c, strong=1, view="unscaled")]


def nets(c: Any) -> list[Net]:
  """N students, each with its teacher; published: one."""
  n, limit = c.method.networks, c.method.reco.decay
  decay = lambda t: ema_decay(t, limit)
  return [Net("networks", n), Net("teacher", n, "average", of="networks", decay=decay)]


def divisible(c: Any) -> bool:
  """No: all pixels of a batch are one pool."""
  return False


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE + lambda L_u + lambda_r L_reco."""
  o, y, quirks = c.method.reco, s.y("labeled"), c.method.compat
  x_u, Y, q = _views(c, s)
  S = s.net("networks", {"labeled": s.x("labeled", strong=1), "mixed": x_u})
  s.teaches("mixed", Y)
  supervised = s.supervised(S["labeled"], y).sum()
  quirk = "positive_pixels" in quirks
  L_u = regional_contrast.weighted_loss(S["mixed"], Y, q, o.strong, quirk)
  L_reco = _contrast(c, s, y, Y, q)
  s.log("unlabeled", L_u.sum(), float(len(Y)))
  s.log("confident", (q >= o.strong).sum(), float(q.size))
  s.log("contrast", L_reco.sum(), float(len(Y)))
  return supervised + s.weight() * L_u.sum() + o.weight_contrast * L_reco.sum()


def _views(c: Any, s: Step) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns x_u [N,B,H,W,C], y_u uint8 and q [N,B,H,W]."""
  o, name = c.method.reco, "unlabeled"
  P = s.net("teacher", {name: s.x(name)}, grad=False)[name]
  Y = s.hide_padding(name, P.argmax(-1).astype(jnp.uint8))
  s.health(Y, s.y(name), P.shape[-1])
  q = jnp.where(Y != IGNORE, jnp.exp(P.max(-1) - jax.nn.logsumexp(P, axis=-1)), 0)
  if "eight_bits" in c.method.compat:
    q = jnp.floor(q * 255) / 255
  scale, y0, x0, flip = jnp.moveaxis(s.u("geometry", name, (4,)), -1, 0)
  scale = o.scales[0] + (o.scales[1] - o.scales[0]) * scale
  rows = rescale.axis(scale, y0, Y.shape[2])
  columns = rescale.axis(scale, x0, Y.shape[3])
  image, inside = rescale.image_at(s.pixels(name), rows, columns), s.inside(name)
  Y, q = (rescale.map_at(m, rows, columns, fill) for m, fill in ((Y, IGNORE), (q, 0)))
  n, u = len(P), s.u("classes", name, P.shape[-1:], copies=len(P))
  M = mixing.masks(o.mix, Y, s.u("box", name, (3,)), u)
  every = lambda x: jnp.broadcast_to(x[None], (n, *x.shape))
  mean = jnp.asarray([round(255 * m) for m in c.data.mean], jnp.uint8).reshape(1, 1, 1, 1, -1)
  image = mixing.mixed(o.mix, M, every(image), mean)
  inside = mixing.mixed(o.mix, M, rescale.map_at(every(inside), rows, columns), True)
  Y, q = (mixing.mixed(o.mix, M, m, nothing) for m, nothing in ((Y, jnp.uint8(IGNORE)), (q, 0)))
  # Both parts of a mixed picture together.
  turn = jax.vmap(lambda flip, m: jnp.where(flip, m[:, :, ::-1], m), (0, 1), 1)
  image, inside, Y, q = (turn(flip < o.flip, m) for m in (image, inside, Y, q))
  x = jnp.stack([s.normalized(s.strong(image[k], name, 1), inside[k]) for k in range(n)])
  s.show("mixed", x)
  s.show("pseudo", Y)
  return x, Y, q


def _contrast(c: Any, s: Step, y: jax.Array, Y: jax.Array, q: jax.Array) -> jax.Array:
  """Returns L_reco [N]."""
  o, S, names = c.method.reco, s.seen["networks"], ("labeled", "mixed")
  size, y = S["mixed"]["embedding"].shape[2:4], jnp.broadcast_to(y[None], (len(Y), *y.shape))
  resized = functools.partial(resize_bilinear, size=size, align_corners=s.align_corners("networks"))
  P = flat_maps([resized(S[name]["logits"]) for name in names])
  valid = flat_labels((y != IGNORE, (q >= o.weak) & (Y != IGNORE)), size)
  options = {"strong": o.strong, "temperature": o.temperature}

  def of_network(key: jax.Array, *seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    picks = regional_contrast.draw(key, o.queries, o.negatives)
    return regional_contrast.regional_contrast(*seen, picks, **options)

  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    s.keys("contrast", "labeled")[0], jnp.arange(len(Y))
  )
  E = flat_maps([S[name]["embedding"] for name in names])
  losses, classes = jax.vmap(of_network)(
    keys, E, flat_labels((y, Y), size), valid, jax.nn.softmax(P, axis=-1)
  )
  s.log("contrast_classes", classes.sum(), float(len(Y)))
  return losses
