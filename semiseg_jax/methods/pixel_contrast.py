"""Cross-image pixel contrast (Wang et al., ICCV 2021, arXiv 2101.11939), with or without memory.

    L = CE(P, y) + lambda L_contrast        from step `warmup_steps` on, CE alone before

L_contrast (ops/contrast.py) pulls embeddings of pixels of one class together, across pictures, and
pushes those of other classes away.  Without memory the anchors are compared with each other, with
memory with the queues of ops/memory.py, which fill during the warm-up as well.  `group` pictures
are a pool that shares a budget of anchors; published: the 2 of a GPU, 1024 anchors.

As a term (`method.add`) it works on the labeled pictures of any method.  With `on='all'` a pool has
its share of the pictures too that the networks learn from in this step by pseudo labels: as the
networks saw them (mixed, strong), with the labels that they learn from, where they do.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.methods import contract, shared
from semiseg_jax.methods.contract import Net, Stream, labeled, uneven_groups
from semiseg_jax.methods.step import Step, Teaching
from semiseg_jax.methods.supervised import class_weighted
from semiseg_jax.ops.contrast_pools import contrast_of_pools, pooled, remember
from semiseg_jax.ops.memory import Memory, empty_memories
from semiseg_jax.ops.resize import resize_bilinear, resize_nearest
from semiseg_jax.options import key

# The defects of the published memory: class 0 left out and zeros in its place, wrong pixels, pixels
# overwritten, a positive of every anchor lost.  (Its labels of another stride are not kept.)
COMPAT = ("reference_memory",)
NOT_IN_TERM = ("class_weights",)  # the cross entropy is that of the method
SAMPLING = ("max_samples", "max_views", "temperature", "base_temperature")


@dataclasses.dataclass(frozen=True)
class Options(shared.Supervised):
  """The config block `method.pixel_contrast`."""

  weight: float = key(0.1, "lambda", at_least=0)
  temperature: float = key(0.1, "tau; 0.07 with the published memory", above=0)
  base_temperature: float = key(0.07, "tau_b", above=0)
  on: str = key(
    "labeled",
    "pictures with anchors; 'all': those as well that the method has pseudo labels of",
    one_of=("labeled", "all"),
  )
  group: int = key(
    0,
    "labeled pictures of a pool, which has an equal share of the others; 0 = `loss_group`",
    at_least=0,
  )
  max_samples: int = key(1024, "anchors of a pool", at_least=1)
  max_views: int = key(100, "anchors per class of a picture that has more pixels of it", at_least=1)
  warmup_steps: int = key(5000, "first step of the contrast", at_least=0)
  memory: int = key(0, "m: places per class of a queue; published: 5000; 0 = none", at_least=0)
  memory_pixels: int = key(10, "f: pixels per class of a picture that enter it", at_least=1)
  class_weights: tuple[float, ...] = key(
    (), "of the cross entropy, by class; () = none", at_least=0, when={"supervised_loss": ("ce",)}
  )


def rules(c: Any) -> Iterator[str]:
  """What its keys need of each other and of the network."""
  o, m, parts = c.method.pixel_contrast, c.method, c.train.accumulate
  if o.group and c.train.batch_labeled // parts % o.group:
    yield (
      f"method.pixel_contrast.group={o.group}: 0, or a divisor of the {c.train.batch_labeled} "
      "labeled pictures of a batch (of a part of it, where train.accumulate cuts it)."
    )
  elif o.on == "all":
    own = "method.pixel_contrast.group"
    yield from uneven_groups(c, o.group, own) if o.group else uneven_groups(c)
  if c.model.projection.kind == "none":
    yield "model.projection.kind='none': pixel_contrast needs embeddings, e.g. 'convmlp'."
  if c.model.projection.kind in ("reco", "u2pl"):
    kind = c.model.projection.kind
    yield f"model.projection.kind={kind!r}: pixel_contrast needs unit length, as of 'convmlp'."
  if getattr(contract.find(m.name), "CLASSIFIES", False):
    yield f"method.add={tuple(m.add)}: method.name={m.name!r} has no pixels to contrast."
  if c.model.family:
    yield f"model.family={c.model.family}: pixel contrast takes networks of one kind; set it to ()."
  if o.memory and o.memory_pixels > o.memory:
    yield f"method.pixel_contrast.memory_pixels={o.memory_pixels}: 1 to memory={o.memory}."
  if "reference_memory" in m.compat and not o.memory:
    yield "method.compat=('reference_memory',) needs method.pixel_contrast.memory."


def whole_rules(c: Any) -> Iterator[str]:
  """Pseudo labels are there where they are asked for; a stage may have none."""
  if c.method.pixel_contrast.on == "all" and not contract.teaches(c.method.name):
    able = filter(contract.teaches, contract.modules())
    yield (
      f"method.pixel_contrast.on='all': method.name={c.method.name!r} makes no pseudo labels; set "
      f"it to 'labeled', or choose one of {', '.join(able)}."
    )


def streams(c: Any) -> list[Stream]:
  """The labeled pictures."""
  return [labeled(c)]


def nets(c: Any) -> list[Net]:
  """N networks with a projection head."""
  return [Net("networks", c.method.networks)]


def phase(c: Any, t: int) -> frozenset[str]:
  """'contrast': the warm-up is over."""
  return frozenset({"contrast"} if t >= c.method.pixel_contrast.warmup_steps else ())


def divisible(c: Any) -> bool:
  """Parts of a batch share nothing: groups of pictures, no memory."""
  o = c.method.pixel_contrast
  return bool(o.group or c.method.loss_group) and not o.memory


def memory(c: Any, nets: Any) -> Memory | None:
  """The queues of each network [N,...], random unit vectors."""
  size, f, n = c.method.pixel_contrast.memory, nets["networks"][0].stack.network, c.method.networks
  return empty_memories(n, f.num_classes, size, f.projection.width, c.seed) if size else None


def loss(c: Any, s: Step) -> jax.Array:
  """L = CE + lambda L_contrast."""
  P = s.net("networks", {"labeled": s.x("labeled")})["labeled"]
  own = class_weighted(c, "pixel_contrast", P.shape[-1])
  return s.supervised(P, s.y("labeled"), own=own).sum() + term(c, s)


def term(c: Any, s: Step) -> jax.Array:
  """lambda L_contrast on pictures that the networks have seen in this step."""
  o, reference = c.method.pixel_contrast, "reference_memory" in c.method.compat
  taught, y = {"labeled": Teaching(s.y("labeled")[None], "labeled")}, s.y("labeled")
  if o.on == "all":
    taught |= s.taught
  groups = len(y) // o.group if o.group else s.groups(y)
  each = zip(*(_seen(s, stream, Y) for stream, (Y, _) in taught.items()))
  P, E, y = (pooled(parts, groups) for parts in each)

  def drawn(use: str) -> jax.Array:
    """u [N,B,h,w]."""
    names = {name: f"{use}/{name}" if name != "labeled" else use for name in taught}
    u = [s.u(names[k], taught[k].of, E.shape[2:4], copies=len(E)) for k in taught]
    return pooled(u, groups)

  total = jnp.zeros((), E.dtype)
  if "contrast" in s.phase:
    sampling = {name: o[name] for name in SAMPLING}
    contrast, anchors = contrast_of_pools(
      P, E, y, drawn("anchors"), s.memory, groups=groups, reference=reference, **sampling
    )
    s.log("contrast", contrast.sum(), float(len(E)))
    s.log("contrast_anchors", anchors.sum(), float(len(E)))
    total = o.weight * contrast.sum()
  if o.memory:
    pixels = o.memory_pixels
    s.memory = remember(s.memory, E, y, drawn("memory"), pixels=pixels, reference=reference)
  return total


def _seen(s: Step, stream: str, Y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """P [N,B,h,w,C], E [N,B,h,w,D] and labels [N,B,h,w] of a stream, at the stride of E."""
  seen = s.seen["networks"][stream]
  E = seen["embedding"]
  size = E.shape[2:4]
  P = resize_bilinear(seen["logits"], size, align_corners=s.align_corners("networks"))
  return P, E, jnp.broadcast_to(resize_nearest(Y, size), E.shape[:-1])
