"""Cross-image pixel contrast (Wang et al., ICCV 2021, arXiv 2101.11939), with or without memory.

    L = CE(P, y) + lambda L_contrast        from step `warmup_steps` on, CE alone before

L_contrast (ops/contrast.py) pulls embeddings of pixels of one class together, across pictures, and
pushes those of other classes away.  Without memory the anchors are compared with each other, with
memory with the queues of ops/memory.py, which fill during the warm-up as well.  `loss_group`
pictures share a budget of anchors; published: the 2 of a GPU, 1024 anchors.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax import stacks
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import MakeStack, Method, Metrics, Stream
from semiseg_jax.methods.inputs import images_of, loss_groups, loss_options, upsampled_logits
from semiseg_jax.ops.contrast import Anchors, contrast_loss, sample_anchors
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.ops.losses import supervised_loss, weighted_cross_entropy
from semiseg_jax.ops.memory import Memory, as_bank, draw_pixels, empty_memory, enqueue
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.options import key
from semiseg_jax.stacks import Stack

Tree = Any
READS = ()
# The defects of the published memory: class 0 left out and zeros in its place, wrong pixels, pixels
# overwritten, a positive of every anchor lost.  (Its labels of another stride are not kept.)
COMPAT = ("reference_memory",)


@dataclasses.dataclass(frozen=True)
class Options(shared.Weighted, shared.Supervised):
  """The config block `method.pixel_contrast`."""

  temperature: float = key(0.1, "tau; 0.07 with the published memory", above=0)
  base_temperature: float = key(0.07, "tau_b", above=0)
  max_samples: int = key(1024, "anchors of `loss_group` pictures", at_least=1)
  max_views: int = key(
    100, "anchors per class of a picture; classes with no more pixels give none", at_least=1
  )
  warmup_steps: int = key(5000, "first step of the contrast", at_least=0)
  memory: int = key(
    0, "m: places per class of each queue; published: 5000; 0 = no memory", at_least=0
  )
  memory_pixels: int = key(10, "f: pixels per class of a picture that enter the memory", at_least=1)
  class_weights: tuple[float, ...] = key(
    (), "of the cross entropy, one per class; () = none", at_least=0
  )


def rules(config: Any) -> list[str]:
  """Returns what a contrast cannot run with."""
  o, faults = config.method.pixel_contrast, []
  if config.model.projection.kind == "none":
    faults.append(
      "model.projection.kind='none': pixel contrast needs embeddings; set e.g. 'convmlp'."
    )
  if o.class_weights and config.method.supervised_loss != "ce":
    faults.append("method.pixel_contrast.class_weights need method.supervised_loss='ce'.")
  if o.memory and o.memory_pixels > o.memory:
    faults.append(
      f"method.pixel_contrast.memory_pixels={o.memory_pixels}: at most memory={o.memory}."
    )
  if "reference_memory" in config.method.compat and not o.memory:
    faults.append(
      f"method.compat={tuple(config.method.compat)}: 'reference_memory' is read with "
      "method.pixel_contrast.memory above 0."
    )
  return faults


def build(config: Any, make_stack: MakeStack) -> Method:
  """Returns the method: `networks` networks with a projection head.

  Raises:
    ValueError: no projection head, or an option out of its range.
  """
  o = Options(**config.method.pixel_contrast)
  stack = make_stack("networks", config.method.networks)
  _check(config, o, stack)

  def memories() -> dict[str, Memory]:
    if not o.memory:
      return {}
    width = stack.network.projection.width
    copies = [
      empty_memory(stack.network.num_classes, o.memory, width, (config.seed, k))
      for k in range(stack.n)
    ]
    return {"memory": jax.tree.map(lambda *x: np.stack(x), *copies)}

  return Method(
    streams=(Stream("labeled", "labeled", config.train.batch_labeled, order="labeled"),),
    stacks={"networks": stack},
    trained=("networks",),
    evaluated="networks",
    loss=_loss(config, o, stack),
    phase=lambda step: int(step >= o.warmup_steps),
    extra_state=memories,
    divisible=bool(config.method.loss_group) and not o.memory,
  )


def _check(config: Any, o: Options, stack: Stack) -> None:
  if stack.network.projection is None:
    raise ValueError(
      "method.name='pixel_contrast' needs embeddings: set model.projection.kind, e.g. to 'convmlp'."
    )
  classes, weights = stack.network.num_classes, o.class_weights
  for ok, what in (
    (min(o.temperature, o.base_temperature) > 0, "temperature and base_temperature are above 0"),
    (min(o.max_samples, o.max_views) > 0, "max_samples and max_views are at least 1"),
    (min(o.warmup_steps, o.memory) >= 0, "warmup_steps and memory are 0 or more"),
    (
      not o.memory or 0 < o.memory_pixels <= o.memory,
      f"memory_pixels={o.memory_pixels} is 1 to memory={o.memory}",
    ),
    (
      len(weights) in (0, classes) and all(w >= 0 for w in weights),
      f"class_weights={weights}: one for each of the {classes} classes, or ()",
    ),
    (
      not weights or config.method.supervised_loss == "ce",
      "class_weights need method.supervised_loss='ce'",
    ),
    (o.memory or not config.method.compat, f"compat={config.method.compat} is read with memory"),
  ):
    if not ok:
      raise ValueError(f"method.pixel_contrast: {what}.")


def _loss(config: Any, o: Options, stack: Stack):
  def loss(
    params: Tree, state: Tree, batch: Tree, key: jax.Array, step: jax.Array, phase: int
  ) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
    stream, stats = batch["labeled"], state["batch_stats"]
    x, y = images_of(config, stream), stream["label"]
    outputs, moved = stacks.apply(
      stack,
      params["networks"],
      stats["networks"],
      {"labeled": x},
      bn="train",
      dropout={"labeled": example_keys(key, "dropout", stream["row"])},
    )
    P, E = outputs["labeled"]["logits"], outputs["labeled"]["embedding"]
    full = upsampled_logits(stack, outputs["labeled"], y.shape[1:])
    supervised, pixels = _supervised(config, o, full, y)
    metrics: Metrics = {f"supervised_{k}": (supervised[k], 1.0) for k in range(stack.n)}
    metrics["supervised_pixels"] = (pixels.sum(), float(stack.n * y.size))
    total, state = supervised.sum(), {**state, "batch_stats": {"networks": moved}}

    y = labels_at(y, E.shape[2:4])
    P = resize_bilinear(P, E.shape[2:4], align_corners=stack.network.align_corners)
    draw = lambda use: _uniform(key, use, stream["row"], stack.n, y.shape[1:])
    if phase:
      groups = loss_groups(config, y)
      u, memory = draw("anchors"), state.get("memory")
      contrast, anchors = contrast_term(config, o, P, E, y, u, memory, groups)
      metrics["contrast"] = (contrast.sum(), float(stack.n))
      metrics["contrast_anchors"] = (anchors.sum(), float(stack.n))
      total += config.method.weight * contrast.sum()
    if o.memory:
      memory = remembered(config, o, state["memory"], E, y, draw("memory"))
      state = {**state, "memory": memory}
    return total, (state, None, metrics)

  return loss


def labels_at(labels: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Labels [B,H,W] at [B,h,w]: the pixel at floor(i H / h), floor(j W / w)."""
  rows, columns = ((jnp.arange(n) * full) // n for n, full in zip(size, labels.shape[1:]))
  return labels[:, rows[:, None], columns[None]]


def _uniform(key: jax.Array, use: str, rows: jax.Array, n: int, size: tuple[int, int]) -> jax.Array:
  """A random number for every pixel [N,B,h,w]."""
  keys = example_keys(key, use, rows)
  copy = lambda k: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, k), size))(keys)
  return jnp.stack([copy(k) for k in range(n)])


def _supervised(config: Any, o: Options, P: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  if not o.class_weights:
    return supervised_loss(P, y, **loss_options(config))
  return weighted_cross_entropy(P, y, tuple(o.class_weights), group=config.method.loss_group)


def contrast_term(
  config: Any,
  o: Options,
  P: jax.Array,
  E: jax.Array,
  y: jax.Array,
  u: jax.Array,
  memory: Memory | None,
  groups: int,
) -> tuple[jax.Array, jax.Array]:
  """Returns L_contrast [N], a mean over groups of pictures, and the number of anchors [N].

  Args:
    config: of the run.
    o: its block `method.pixel_contrast`.
    P: logits [N,B,h,w,C].
    E: embeddings [N,B,h,w,D].
    y: labels [B,h,w].
    u: random numbers [N,B,h,w].
    memory: with a leading axis N, or None.
    groups: into which the batch is cut.
  """
  reference = "reference_memory" in config.method.compat
  cut = lambda a: a.reshape(groups, -1, *a.shape[1:])

  def of_group(P: jax.Array, E: jax.Array, y: jax.Array, u: jax.Array, memory: Memory | None):
    found = sample_anchors(
      y,
      P.argmax(-1),
      u,
      num_classes=P.shape[-1],
      max_samples=o.max_samples,
      max_views=o.max_views,
    )
    x = E.reshape(-1, E.shape[-1])[found.pixel]
    bank, labels, excluded = _compared(x, found, memory, reference)
    loss = contrast_loss(
      x,
      found.label,
      found.valid,
      bank,
      labels,
      excluded,
      temperature=o.temperature,
      base_temperature=o.base_temperature,
    )
    return loss, found.valid.sum()

  def of_network(P: jax.Array, E: jax.Array, u: jax.Array, memory: Memory | None):
    y_groups = cut(y)
    of_groups = jax.vmap(of_group, (0, 0, 0, 0, None))
    loss, anchors = of_groups(cut(P), cut(E), y_groups, cut(u), memory)
    return loss.mean(), anchors.sum()

  return jax.vmap(of_network)(P, E, u, memory)


def _compared(
  x: jax.Array, anchors: Anchors, memory: Memory | None, reference: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What the anchors are compared with, see `contrast_loss`: each other, or the memory."""
  if memory is None:
    labels = jnp.where(anchors.valid, anchors.label, -1)
    return x[None], labels[None], jnp.arange(len(x))
  bank, labels = as_bank(memory, reference)
  nothing = jnp.full(len(x), -1, jnp.int32)
  return bank, labels, anchors.view_major if reference else nothing


def remembered(
  config: Any, o: Options, memory: Memory, E: jax.Array, y: jax.Array, u: jax.Array
) -> Memory:
  """Returns the memory (leading axis N) after the pictures of a batch; arguments as above."""
  reference = "reference_memory" in config.method.compat
  flat = y.reshape(len(y), -1)

  def of_network(memory: Memory, E: jax.Array, u: jax.Array) -> Memory:
    classes = len(memory["region"])
    draw = lambda labels, u: draw_pixels(labels, u, classes, o.memory_pixels, reference)
    pixels = jax.vmap(draw)(flat, u.reshape(flat.shape))
    return enqueue(memory, E.reshape(*flat.shape, -1), flat, pixels, reference)

  return jax.vmap(of_network)(memory, E, u)
