"""U2PL: Using Unreliable Pseudo-Labels (Wang et al., CVPR 2022, arXiv 2203.03884).

    y_u    = argmax T(x_u)                      teacher in evaluation mode
    x_u   <- mix of x_u and the next picture, y_u likewise: with `mix_p`, one draw for the batch
    p, H   = softmax T(x), entropy              teacher once more, on x_l and mixed x_u, in training
    L_u    = (pixels / kept) mean CE(S(x_u), y_u) where H < gamma_t
    L_c    = 1/|C| sum_c mean_a -log e(a, +) / (e(a, +) + sum_n e(a, -_n))
             e(a, b) = exp(cos(z_a, z_b) / tau)
    L      = L_s + lambda_u L_u + lambda_c L_c

gamma_t is the percentile 100 - `dropped` (1 - t/T) of H.  With a_t = `share` (1 - t/T): anchors z_a
are reliable pixels (labeled, or H up to the percentile a_t) with p_c > delta_p, z+ is the teacher's
mean over the reliable pixels of c, and z- come from a memory of unreliable ones (H from 100 - a_t
on) for which c is an unlikely class, and of labeled ones that c is confused with.

Before `supervised_steps` L = L_s, and the teacher sees x_l to move its statistics.  Until
`copied_steps` later it is the student's copy, then an average of parameters; its statistics are its
own.
gamma_t and a_t follow steps where the release has epochs.  Percentiles are those of `loss_group`
pictures, the contrast is over the whole batch.  At most `entering` pixels, evenly sampled, enter
the memory; the release keeps the last ones.  Auxiliary logits of a head are in L_s.
Left out: the variant on AEL, prototypes that are averages, the binary loss.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream, labeled, uneven_groups, unlabeled
from semiseg_jax.methods.step import Step
from semiseg_jax.ops import mixing, reliability
from semiseg_jax.ops.class_memory import Rings, empty_rings
from semiseg_jax.ops.consistency import ema_decay
from semiseg_jax.ops.dtypes import DTYPES
from semiseg_jax.ops.unreliable_contrast import memory_contrast, seen_of
from semiseg_jax.options import key

# 'own_class_negatives': a pixel is a negative of the class that its own label names alone.
# 'shifted_classes': the i-th class meets the memory of the i-th present one.  'padding_class_0':
# padding is labeled 0, and teaches where it is not.  'idle_teacher': the first weights until
# `supervised_steps` are over.
COMPAT = ("own_class_negatives", "shifted_classes", "padding_class_0", "idle_teacher")
AUXILIARY = "weight_auxiliary"
LOGS = ("contrast",)
TEACHES = True


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.u2pl`."""

  supervised_steps: int = key(0, "first step with unlabeled pictures; VOC: an epoch", at_least=0)
  copied_steps: int = key(0, "from then on the teacher is a copy so long; an epoch", at_least=0)
  decay: float = key(0.99, "of the average, at most; 1 - 1/(k+1) before", at_least=0, below=1)
  mix: str = key("cutmix", "with the next picture; 'cutout': with nothing", one_of=mixing.KINDS)
  mix_p: float = key(0.5, "probability that a batch is mixed", at_least=0, at_most=1)
  dropped: float = key(
    20.0, "percent of pixels that do not teach; falls to 0", at_least=0, below=100
  )
  share: float = key(20.0, "a_0: percent of low, of high entropies", at_least=0, at_most=50)
  weight_contrast: float = key(0.1, "lambda_c", at_least=0)
  probability: float = key(0.3, "delta_p: of their class, in anchors", at_least=0, below=1)
  low_rank: int = key(3, "r_l: classes of lower rank are likely ones", at_least=1)
  high_rank: int = key(20, "r_h: classes from this rank on are no negatives", at_least=2)
  temperature: float = key(0.5, "tau", above=0)
  anchors: int = key(256, "M: of a class", at_least=1)
  negatives: int = key(50, "N: of an anchor", at_least=1)
  memory: tuple[int, int] = key(
    (50_000, 30_000), "places of class 0, of every other class", at_least=1, length=(2,)
  )
  entering: int = key(30_000, "pixels of a class that enter at most in a step", at_least=1)
  memory_dtype: str = key("float32", "'bfloat16' needs half of it", one_of=DTYPES)
  weight_auxiliary: float = key(0.4, "of auxiliary logits, where the head gives them", at_least=0)


CONTRAST = (
  "low_rank",
  "high_rank",
  "probability",
  "temperature",
  "anchors",
  "negatives",
  "entering",
)


def rules(c: Any) -> list[str]:
  """Embeddings of networks of one kind, ranks that rise, groups of a size."""
  o, kind, family = c.method.u2pl, c.model.projection.kind, c.model.family
  start, steps = o.supervised_steps, c.train.steps
  wrong = {
    "model.projection.kind='none': u2pl needs embeddings, e.g. 'u2pl'.": kind == "none",
    f"model.family={family}: u2pl takes networks of one kind; set it to ().": bool(family),
    f"method.u2pl.low_rank={o.low_rank}: below high_rank={o.high_rank}.": o.low_rank >= o.high_rank,
    f"method.u2pl.supervised_steps={start}: below train.steps={steps}, or no step sees unlabeled "
    "pictures.": start >= steps,
  }
  return uneven_groups(c) + [line for line, broken in wrong.items() if broken]


def streams(c: Any) -> list[Stream]:
  """Labeled and unlabeled pictures."""
  return [labeled(c), unlabeled(c)]


def nets(c: Any) -> list[Net]:
  """N students, each with its teacher; published: one."""
  o, n, idle = c.method.u2pl, c.method.networks, "idle_teacher" in c.method.compat
  start, end = o.supervised_steps, o.supervised_steps + o.copied_steps

  def decay(t: Any) -> jax.Array:
    a = jnp.where(t < end, 0, ema_decay(t - start, o.decay))
    return jnp.where(t < start - 1, 1, a) if idle else a

  return [Net("networks", n), Net("teacher", n, "average", of="networks", decay=decay)]


def phase(c: Any, t: int) -> frozenset[str]:
  """'unlabeled': unlabeled pictures take part."""
  return frozenset({"unlabeled"} if t >= c.method.u2pl.supervised_steps else ())


def memory(c: Any, nets: Any) -> Rings:
  """Empty rings for each network and class.

  Raises:
    ConfigError: so few classes that none is unlikely.
  """
  o, f = c.method.u2pl, nets["networks"][0].stack.network
  if o.low_rank >= f.num_classes:
    raise ConfigError(
      f"method.u2pl.low_rank={o.low_rank}: none of {f.num_classes} classes has that rank, so that "
      "there are no negatives; set it to 1."
    )
  sizes = _sizes(o, f.num_classes)
  return empty_rings(c.method.networks, sizes, f.projection.width, o.memory_dtype)


def _sizes(o: Any, classes: int) -> tuple[int, ...]:
  first, other = o.memory
  return (first, *[other] * (classes - 1))


def loss(c: Any, s: Step) -> jax.Array:
  """L = L_s + lambda_u L_u + lambda_c L_c."""
  o, x, y = c.method.u2pl, {"labeled": s.x("labeled")}, s.y("labeled")
  if "padding_class_0" in c.method.compat:
    y = jnp.where(s.unpadded("labeled"), y, 0)
  if "unlabeled" in s.phase:
    x["mixed"], Y = _taught(c, s)
  S = s.net("networks", x, groups=[tuple(x)])
  drops = {name: s.keys("teacher", stream) for name, stream in zip(x, ("labeled", "unlabeled"))}
  T = s.net("teacher", x, groups=[tuple(x)], grad=False, dropout=drops, out="all")
  L = s.supervised(S["labeled"], y).sum() + o.weight_auxiliary * s.auxiliary("labeled", y).sum()
  if "unlabeled" not in s.phase:
    return L
  left, groups, n, has = 1 - s.course(), s.groups(y), float(len(Y)), Y != IGNORE
  H = reliability.entropy(T["mixed"]["full"])
  percents = (100 - o.dropped * left, o.share * left, 100 - o.share * left)
  gamma, low, high = reliability.entropy_bounds(H, Y, percents, groups)
  L_u, kept = reliability.reliable_loss(S["mixed"], Y, H, gamma, groups)
  s.teaches("mixed", kept)
  L_c = _contrast(c, s, T, y, Y, has & (H <= low), has & (H >= high))
  s.log("unlabeled", L_u.sum(), n)
  s.log("reliable", (kept != IGNORE).sum(), float(kept.size))
  s.log("contrast", L_c.sum(), n)
  s.show("reliable", kept)
  return L + s.weight() * L_u.sum() + o.weight_contrast * L_c.sum()


def _taught(c: Any, s: Step) -> tuple[jax.Array, jax.Array]:
  """Returns x_u [N,B,H,W,C] and y_u [N,B,H,W], mixed."""
  o, x = c.method.u2pl, s.x("unlabeled")
  P = s.net("teacher", {"unlabeled": x}, bn="eval", grad=False)["unlabeled"]
  Y = s.hide_padding("unlabeled", P.argmax(-1).astype(jnp.uint8), unless="padding_class_0")
  s.health(Y, s.y("unlabeled"), P.shape[-1])
  s.show("pseudo", Y)
  u = s.u("classes", "unlabeled", P.shape[-1:], copies=len(P))
  M = mixing.masks(o.mix, Y, s.u("box", "unlabeled", (3,)), u)
  M &= s.u("mixed", "unlabeled", ())[0] < o.mix_p
  x = jnp.broadcast_to(x[None], (len(P), *x.shape))
  x, Y = mixing.mixed(o.mix, M, x, 0), mixing.mixed(o.mix, M, Y, jnp.uint8(IGNORE))
  s.show("mixed", x)
  return x, Y


def _contrast(
  c: Any, s: Step, T: dict, y: jax.Array, Y: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
  """Returns L_c [N], and puts the negatives of this step into the memory."""
  o, quirks, S = c.method.u2pl, c.method.compat, s.seen["networks"]
  y = jnp.broadcast_to(y[None], (len(Y), *y.shape))
  known, align_corners = y != IGNORE, s.align_corners("teacher")
  streams = [[seen[k] for k in ("labeled", "mixed")] for seen in (S, T)]
  pixels = seen_of(*streams, (y, Y), (known, low), (known, high), align_corners=align_corners)
  run = functools.partial(
    memory_contrast,
    **{name: o[name] for name in CONTRAST},
    sizes=_sizes(o, pixels.p.shape[-1]),
    own_class="own_class_negatives" in quirks,
    shifted="shifted_classes" in quirks,
  )
  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    s.keys("contrast", "labeled")[0], jnp.arange(len(Y))
  )
  L_c, s.memory = jax.vmap(run)(pixels, s.memory, keys)
  return L_c
