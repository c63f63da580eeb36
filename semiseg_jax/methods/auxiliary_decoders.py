"""The auxiliary decoders of CCT: each sees the features perturbed in its own way (methods/cct.py).

They are run one by one in a loop whose body is computed again in the backward pass: one map at full
size is alive at a time, and what the loop keeps of a decoder is its number and its parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.methods.step import Step
from semiseg_jax.ops import guided_cutout, perturbations
from semiseg_jax.ops.channels import dropout_masks
from semiseg_jax.ops.consistency import soft_distance, spread
from semiseg_jax.ops.resize import resize_nearest

Tree = Any
Decode = Callable[[jax.Array], jax.Array]  # features [B,h,w,C] -> logits [B,H,W,K]
Perturb = Callable[[jax.Array, jax.Array, Decode], jax.Array]  # h, number of the decoder, decoder

AUXILIARY, STREAM = "auxiliary", "unlabeled"
PAIRED = 8  # decoders at most in the pairwise term
# In the order of the released code.
KINDS = (
  "vat",
  "dropout",
  "cutout",
  "context_masking",
  "object_masking",
  "feature_drop",
  "feature_noise",
)


def cross_consistency(o: Any, s: Step, h: jax.Array, P: jax.Array) -> jax.Array:
  """Returns L_u, the mean over all decoders and the pairwise term; logs the mean of each kind.

  Args:
    o: the options of CCT.
    s: the step; its net 'auxiliary' has the decoders, in the order of KINDS.
    h: features [B,h,w,C] of the stream 'unlabeled'; the gradient goes through them.
    P: the main decoder's logits [B,H,W,K], without gradient.
  """
  h = h.astype(jnp.promote_types(h.dtype, jnp.float32))  # in which its gradients add up
  distance, ways = distance_to(o, s, P), perturbed(o, s, h.shape, P)
  first, total, number = 0, jnp.zeros((), P.dtype), sum(o[kind] for kind in KINDS)
  chosen = _paired(s, number) if o.pairwise else None
  moments = (jnp.zeros_like(P),) * 2 if o.pairwise else ()
  for kind in KINDS:
    n = o[kind]
    if n:
      each = jax.checkpoint(_one(s, ways[kind], distance, P.shape[1:3]), prevent_cse=False)
      parts = (jax.tree.map(lambda x: x[:, None], s.params[AUXILIARY]), chosen)
      parts = jax.tree.map(lambda x, k=first, n=n: x[k : k + n], parts)
      add = lambda sums, part, each=each: (jax.tree.map(jnp.add, sums, each(h, *part)), None)
      start = (jnp.zeros((), P.dtype), moments)
      (of_kind, moments), _ = jax.lax.scan(add, start, (jnp.arange(n), *parts))
      s.log(f"consistency/{kind}", of_kind, float(n))
      first, total = first + n, total + of_kind
  L_u = total / number
  if o.pairwise:
    inside = s.inside(STREAM, unless="consistency_padding")
    pairwise = jnp.mean(spread(*moments, min(PAIRED, number)), where=inside)
    s.log("pairwise", pairwise)
    L_u += o.pairwise * pairwise
  return L_u


def _paired(s: Step, number: int) -> jax.Array:
  """Which decoders are in the pairwise term, bool [K], drawn anew in each step."""
  return jax.random.permutation(s.keys("pairwise", STREAM)[0], number) < PAIRED


def _one(
  s: Step, perturb: Perturb, distance: Callable[[jax.Array], jax.Array], size: tuple[int, int]
) -> Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]]:
  """(h, number of the decoder, its parameters [1,...], chosen) -> distance of its prediction.

  Beside it stand the prediction and its square, zeros where `chosen` is False; none where it is
  None.
  """
  run, stats = s.pure(AUXILIARY), {AUXILIARY: s.stats[AUXILIARY]}

  def decode(z: jax.Array, g: Tree, frozen: bool) -> jax.Array:
    return run({STREAM: z}, {AUXILIARY: g}, stats, frozen=frozen, size=size)[STREAM][0]

  def one(h: jax.Array, k: jax.Array, g: Tree, chosen: jax.Array | None) -> tuple:
    z = perturb(h, k, lambda z: decode(z, g, frozen=True))
    a = decode(z, g, frozen=False)
    p = None if chosen is None else jnp.where(chosen, jax.nn.softmax(a), 0)
    return distance(a), () if p is None else (p, p * p)

  return one


def distance_to(o: Any, s: Step, P: jax.Array) -> Callable[[jax.Array], jax.Array]:
  """Returns logits [B,H,W,K] -> their mean distance to softmax P; logs how good its labels are."""
  q, quirks = jax.nn.softmax(P), s.c.method.compat
  inside = s.inside(STREAM, unless="consistency_padding")
  compared = inside & (q.max(-1) > o.confidence)
  Y = jnp.where(compared, P.argmax(-1), IGNORE)[None]
  s.teaches(STREAM, Y)
  s.health(Y, s.y(STREAM), P.shape[-1])
  s.show("pseudo", Y)
  kind = "js_reversed" if "reversed_js" in quirks else o.distance
  pixels = (inside.sum() / P.shape[-1]) if "masked_kl" in quirks else compared.sum()

  def distance(a: jax.Array) -> jax.Array:
    return jnp.where(compared, soft_distance(a, q, kind), 0).sum() / jnp.maximum(pixels, 1)

  return distance


def perturbed(o: Any, s: Step, shape: tuple[int, ...], P: jax.Array) -> dict[str, Perturb]:
  """Returns kind -> the way in which features of `shape` [B,h,w,C] are perturbed.

  Numbers are drawn per picture and decoder; in F-Drop and F-Noise for the whole batch at once.
  """
  _, height, width, channels = shape
  grid, picture = (height, width), P.shape[1:3]
  M = perturbations.foreground(P, o.background)
  m = resize_nearest(M, grid)[..., None]
  boxes = _boxes(s, M, m[..., 0]) if o.cutout else ()

  def u(kind: str, k: jax.Array, *shape: int) -> jax.Array:
    draw = lambda key: jax.random.uniform(jax.random.fold_in(key, k), shape)
    return jax.vmap(draw)(s.keys(kind, STREAM))

  def u_of_all(kind: str, k: jax.Array, *shape: int) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(s.keys(kind, STREAM)[0], k), shape)

  def vat(h: jax.Array, k: jax.Array, decode: Decode) -> jax.Array:
    start = u("vat", k, *h.shape[1:])
    return h + perturbations.adversarial(decode, h, start, xi=o.xi, length=o.length)

  def cutout(h: jax.Array, k: jax.Array, decode: Decode) -> jax.Array:
    where = u("cutout", k, boxes[0].shape[1], 2)
    keep = guided_cutout.kept(boxes, where, share=o.erase, picture=picture, size=grid)
    return h * keep[..., None]

  def feature_drop(h: jax.Array, k: jax.Array, decode: Decode) -> jax.Array:
    low, high = o.activity
    share = low + (high - low) * u_of_all("feature_drop", k)
    return h * perturbations.less_active(h, share)[..., None]

  return {
    "vat": vat,
    "dropout": lambda h, k, g: h * dropout_masks(u("dropout", k, 1, 1, channels), o.dropout_p),
    "cutout": cutout,
    "context_masking": lambda h, k, g: h * m,
    "object_masking": lambda h, k, g: h * ~m,
    "feature_drop": feature_drop,
    "feature_noise": lambda h, k, g: (
      h * perturbations.noise(u_of_all("feature_noise", k, *h.shape[1:]), o.noise)[None]
    ),
  }


def _boxes(s: Step, M: jax.Array, m: jax.Array) -> guided_cutout.Boxes:
  """Of the objects in M [B,H,W], which is m [B,h,w] on the grid."""
  if "contours" in s.c.method.compat:
    return guided_cutout.contours(M)
  return guided_cutout.regions(m, M.shape[1:])
