"""What a loss may ask for: pictures, networks, randomness, and places for what it measured.

A `Step` lives within one trace: the train step creates it, the loss fills it, and what it holds at
the end (batch statistics, memory, metrics) goes back into the train state.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from semiseg_jax import stacks
from semiseg_jax.labels import IGNORE
from semiseg_jax.members import Member, copies, full_size, joined, seen_by
from semiseg_jax.methods.health import pseudo_label_health
from semiseg_jax.ops import losses, photometry
from semiseg_jax.ops.cutmix import draw_box_masks
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.ops.preprocess import normalize, valid_mask
from semiseg_jax.ops.ramps import ramp

Tree = Any
Maps = dict[str, jax.Array]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("maps",), meta_fields=("size",))
@dataclasses.dataclass(frozen=True)
class Features:
  """What the encoders of a net make of a stream.

  Attributes:
    maps: by member of the net: name -> [n,B,h,w,C].
    size: (H, W) of the stream.
  """

  maps: tuple[dict[str, jax.Array], ...]
  size: tuple[int, int]


class Step:
  """One step of a method, within one trace.

  Attributes:
    c: the config.
    t: the step, int32.
    phase: names of what takes part.
    seen: {net: {stream: {name of the output: maps}}} of the passes with gradients so far, at the
      strides of the heads, for terms on top of a loss.
    metrics, shown: what was logged and shown.

  Args of the constructor:
    c: the config.
    members: net -> its members.
    params, stats: by stack.
    memory: {part of the method: tree}.
    batch: {stream: fields}.
    sources: {stream: the source of its pictures}.
    key: of this step.
    t, phase: see above.
    part: the method's name and module; terms follow with `belonging_to`.
  """

  def __init__(
    self,
    c: Any,
    *,
    members: Mapping[str, tuple[Member, ...]],
    params: Tree,
    stats: Tree,
    memory: Tree,
    batch: Tree,
    sources: Mapping[str, str],
    key: jax.Array,
    t: jax.Array,
    phase: frozenset[str],
    part: tuple[str, ModuleType],
  ):
    self.c, self.t, self.phase = c, t, phase
    self.params, self.stats, self.memories = params, dict(stats), dict(memory)
    self.seen: dict[str, dict[str, Maps]] = {}
    self.metrics: dict[str, tuple[Any, Any]] = {}
    self.shown: dict[str, jax.Array] = {}
    self._members, self._key, self._part = members, key, part
    self._batch = dict(_every_stream(batch, sources))
    self._pictures: dict[tuple[str, int], jax.Array] = {}
    self._trace = get_opaque_trace_state()

  @contextlib.contextmanager
  def belonging_to(self, name: str, module: ModuleType) -> Iterator[None]:
    """Inside, memory and compat are those of another part of the method: a term."""
    before, self._part = self._part, (name, module)
    yield
    self._part = before

  @property
  def memory(self) -> Tree:
    """State of this method's own, as the last step (or this one) left it; None: it has none."""
    return self.memories.get(self._part[0])

  @memory.setter
  def memory(self, value: Tree) -> None:
    self.memories[self._part[0]] = value

  # Pictures.

  def x(self, stream: str, strong: int = 0) -> jax.Array:
    """Returns normalized pictures [B,H,W,C]; `strong` = k: their k-th strong view, from 1 on."""
    if (stream, strong) not in self._pictures:
      self._pictures[stream, strong] = normalize(
        self._pixels(stream, strong),
        self._batch[stream]["valid"] if self.c.data.padding == "mean" else None,
        tuple(self.c.data.mean),
        tuple(self.c.data.std),
        jnp.result_type(float),
      )
    return self._pictures[stream, strong]

  def _pixels(self, stream: str, strong: int) -> jax.Array:
    fields, data = self._batch[stream], self.c.data
    labels = fields["source"] == "labeled"
    kind = data.labeled_photometry if labels else data.unlabeled_photometry
    images = fields["image"]
    if kind != "none":
      images = photometry.every_view(images, self.keys(fields["use"], stream), kind, self.c)
    if strong:
      keys = self.keys(f"{stream}/strong_{strong}", stream)
      images = photometry.strong_view(images, keys, self.c)
    return images

  def y(self, stream: str) -> jax.Array:
    """Returns labels uint8 [B,H,W]; of unlabeled pictures the hidden ones, for health only."""
    return self._batch[stream]["label"]

  def target(self, stream: str) -> jax.Array:
    """Returns stored pseudo labels uint8 [B,H,W], IGNORE where there are none."""
    return self._batch[stream]["target"]

  def confidence(self, stream: str) -> jax.Array:
    """Returns the stored confidence of `target`, float32 [B,H,W] from 0 to 1."""
    return self._batch[stream]["confidence"].astype(jnp.float32) / 255

  def inside(self, stream: str, unless: str = "") -> jax.Array:
    """Returns bool [B,H,W]: not padding; all of it where the quirk `unless` is asked for."""
    fields = self._batch[stream]
    shape = fields["image"].shape[:3]
    if unless in self.c.method.compat:
      return jnp.ones(shape, bool)
    return valid_mask(fields["valid"], *shape[1:])

  def geometry(self, stream: str) -> jax.Array:
    """Returns int32 [B,6] of a stream of pairs: dy, dx, vh, vw, flip_1, flip_2."""
    return self._batch[stream]["geometry"]

  # Randomness.

  def keys(self, use: str, stream: str) -> jax.Array:
    """Returns random keys [B] for a named use, by the rows of the stream in the global batch."""
    return example_keys(self._key, use, self._batch[stream]["row"])

  def u(self, use: str, stream: str, shape: tuple[int, ...], copies: int = 0) -> jax.Array:
    """Returns uniform numbers [B,*shape], with `copies` = N others for each copy [N,B,*shape]."""
    keys = self.keys(use, stream)
    if not copies:
      return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
    copy = lambda k: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, k), shape))
    return jnp.stack([copy(k)(keys) for k in range(copies)])

  def cutmix(self, stream: str) -> jax.Array:
    """Returns the masks M, bool [B,H,W], of a stream: true takes the partner's pixel."""
    height, width = self._batch[stream]["image"].shape[1:3]
    m = self.c.method
    return draw_box_masks(
      self.keys("cutmix", stream),
      height=height,
      width=width,
      boxes=m.cutmix_boxes,
      area_range=tuple(m.cutmix_area),
    )

  # Networks.

  def copies(self, name: str) -> int:
    """Returns N of a net."""
    return copies(self._members[name])

  def align_corners(self, name: str) -> bool:
    """Returns how the logits of a net are resized to the picture."""
    return self._members[name][0].stack.network.align_corners

  def net(
    self,
    name: str,
    streams: Mapping[str, jax.Array],
    *,
    bn: str = "train",
    grad: bool = True,
    frozen: bool = False,
    dropout: Mapping[str, Any] | None = None,
    groups: Any = None,
    out: str = "logits",
    block: int = 0,
  ) -> Maps:
    """Runs a net on streams: returns its logits at full size, stream -> [N,B,H,W,C].

    Args:
      name: of the net.
      streams: name -> pictures or maps [B,H,W,C], or [N,B,H,W,C] with one batch per copy.
      bn, grad, frozen, groups: see `stacks.encode`.
      dropout: per stream keys or masks; None: keys of this step in passes that train.
      out: 'logits' at full size; another output by its name, such as 'embedding', at its own
        stride; 'head': logits at the stride of the head.
      block: so many copies are run at a time and once more in the backward pass; 0 = all at once.
    """
    sizes = {stream: x.shape[-3:-1] for stream, x in streams.items()}
    drops = self._dropout(streams, bn, grad, dropout)
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups, "dropout": drops}
    found = []
    for member in self._members[name]:
      x = {stream: seen_by(member, x) for stream, x in streams.items()}
      outputs = self._run(stacks.apply, member, x, options, block)
      found.append(outputs)
    return self._joined(name, found, sizes, grad, out)

  def encode(
    self,
    name: str,
    streams: Mapping[str, jax.Array],
    *,
    bn: str = "train",
    grad: bool = True,
    frozen: bool = False,
    groups: Any = None,
  ) -> dict[str, Features]:
    """Runs the encoders: stream -> features; the arguments are those of `net`."""
    drops = self._dropout(streams, bn, grad, None)
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups, "dropout": drops}
    found = []
    for member in self._members[name]:
      x = {stream: seen_by(member, x) for stream, x in streams.items()}
      found.append(self._run(stacks.encode, member, x, options))
    return {
      stream: Features(tuple(maps[stream] for maps in found), x.shape[-3:-1])
      for stream, x in streams.items()
    }

  def decode(
    self,
    name: str,
    features: Mapping[str, Features],
    *,
    bn: str = "train",
    grad: bool = True,
    frozen: bool = False,
    groups: Any = None,
    out: str = "logits",
  ) -> Maps:
    """Runs the decoders on features; arguments and result are those of `net`."""
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups}
    found = []
    for i, member in enumerate(self._members[name]):
      maps = {stream: f.maps[i] for stream, f in features.items()}
      found.append(self._run(stacks.decode, member, maps, options))
    sizes = {stream: f.size for stream, f in features.items()}
    return self._joined(name, found, sizes, grad, out)

  def pure(self, name: str) -> Callable[..., Maps]:
    """Returns run(streams, params=None, stats=None, bn=...) -> logits at full size.

    The same as `net` without bookkeeping, for use under grad, vmap or scan: statistics do not move,
    and nothing is remembered.  `params` and `stats`, by stack, replace those of the net.
    """

    def run(
      streams: Mapping[str, jax.Array],
      params: Tree = None,
      stats: Tree = None,
      *,
      bn: str = "eval",
      grad: bool = True,
      frozen: bool = False,
    ) -> Maps:
      params, stats = params or self.params, stats or self.stats
      sizes = {stream: x.shape[-3:-1] for stream, x in streams.items()}
      found = []
      for member in self._members[name]:
        x = {stream: seen_by(member, x) for stream, x in streams.items()}
        s = member.stack
        outputs, _ = stacks.apply(
          s, params[s.name], stats[s.name], x, bn=bn, grad=grad, frozen=frozen
        )
        found.append(outputs)
      return full_size(self._members[name], found, sizes)

    return run

  def _dropout(self, streams: Mapping[str, Any], bn: str, grad: bool, given: Any) -> Any:
    if given is not None or bn != "train" or not grad:
      return given
    return {k: self.keys(_dropout_use(k), self._rows_of(k, x)) for k, x in streams.items()}

  def _rows_of(self, stream: str, x: jax.Array) -> str:
    """The stream whose rows number those of `x`: mixed pictures have names of their own."""
    if stream in self._batch:
      return stream
    return next(k for k, f in self._batch.items() if len(f["image"]) == x.shape[-4])

  def _run(
    self, run: Callable[..., Any], member: Member, inputs: Tree, options: Tree, block: int = 0
  ) -> Tree:
    if get_opaque_trace_state() != self._trace:
      raise RuntimeError("inside of grad, vmap, scan or cond a loss calls s.pure(name), not s.net.")
    stack = member.stack
    if block:
      run = functools.partial(stacks.apply_in_blocks, block=block)
    outputs, self.stats[stack.name] = run(
      stack, self.params[stack.name], self.stats[stack.name], inputs, **options
    )
    return outputs

  def _joined(self, name: str, found: list[Tree], sizes: Tree, grad: bool, out: str) -> Maps:
    logits = full_size(self._members[name], found, sizes)
    if grad:
      self._remember(name, found, logits)
    if out == "logits":
      return logits
    out = "logits" if out == "head" else out
    return {stream: joined([f[stream][out] for f in found]) for stream in sizes}

  def _remember(self, name: str, found: list[Tree], full: Maps) -> None:
    for stream in full:
      maps = {"full": full[stream]}
      if len(found) == 1:  # members of a family have other strides
        maps |= found[0][stream]
      self.seen.setdefault(name, {})[stream] = maps

  # Losses and numbers.

  def supervised(
    self,
    P: jax.Array,
    y: jax.Array,
    own: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
  ) -> jax.Array:
    """Returns the supervised loss [N] of logits [N,B,H,W,C] and labels [B,H,W]; logs its parts.

    `own`, (P, y) -> (loss [N], pixels that took part [N]), replaces that of the config.
    """
    m = self.c.method
    of_config = functools.partial(
      losses.supervised_loss,
      kind=m.supervised_loss,
      group=m.loss_group,
      ohem_threshold=m.ohem_threshold,
      ohem_kept_fraction=m.ohem_kept_fraction,
    )
    loss, pixels = (own or of_config)(P, y)
    for k in range(len(loss)):
      self.log(f"supervised_{k}", loss[k])
    self.log("supervised_pixels", pixels.sum(), float(len(loss) * y.size))
    return loss

  def groups(self, y: jax.Array) -> int:
    """Returns into how many groups that share a mean a batch with these labels [B,H,W] falls."""
    return len(y) // self.c.method.loss_group if self.c.method.loss_group else 1

  def weight(self) -> jax.Array:
    """Returns lambda at this step."""
    m = self.c.method
    shape = m.weight_ramp or getattr(self._part[1], "RAMP", "linear")
    return m.weight * ramp(shape, self.t, m.weight_ramp_steps)

  def hide_padding(self, stream: str, Y: jax.Array, unless: str = "") -> jax.Array:
    """Returns labels [N,B,H,W], IGNORE on padding unless the quirk `unless` is asked for."""
    if unless in self.c.method.compat:
      return Y
    return jnp.where(self.inside(stream)[None], Y, jnp.uint8(IGNORE))

  def log(self, name: str, total: Any, count: Any = 1.0) -> None:
    """Logs a mean as its sum and count; both add up over steps before they are divided."""
    self.metrics[name] = (total, count)

  def health(self, Y: jax.Array, truth: jax.Array, classes: int) -> None:
    """Logs how good pseudo labels [N,B,H,W] are against hidden labels [B,H,W]."""
    self.metrics.update(pseudo_label_health(Y, truth, classes))

  def show(self, title: str, shown: jax.Array) -> None:
    """Shows normalized pictures [B,H,W,C], class ids [B,H,W] or bool masks [B,H,W].

    With a leading axis N of copies each is shown on its own.  It costs nothing when nobody looks.
    """
    many = shown.ndim == (5 if jnp.issubdtype(shown.dtype, jnp.floating) else 4)
    named = {f"{title} {k}": x for k, x in enumerate(shown)} if many else {title: shown}
    self.shown.update(named)


def _every_stream(batch: Tree, sources: Mapping[str, str]) -> Iterator[tuple[str, Tree]]:
  """The streams of a batch, the second crops of pairs as streams of their own."""
  for name, fields in batch.items():
    source = sources[name]
    first = {k: v for k, v in fields.items() if not k.endswith("_2")}
    yield name, {"use": f"{name}/image", **first, "source": source}
    second = {k.removesuffix("_2"): v for k, v in fields.items() if k.endswith("_2")}
    if second:
      shared = {k: fields[k] for k in ("row", "index", "geometry")}
      yield f"{name}_2", {"use": f"{name}/image_2", **second, **shared, "source": source}


def _dropout_use(stream: str) -> str:
  # The name that runs of pixel contrast were begun with.
  return "dropout" if stream == "labeled" else f"dropout/{stream}"
