"""What a loss may ask for: pictures, networks, randomness, and places for what it measured.

A `Step` lives within one trace: the train step creates it, the loss fills it, and what it holds at
the end (batch statistics, memory, metrics) goes back into the train state.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from semiseg_jax import segments
from semiseg_jax.data.records import HAS_DATA
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.members import Member
from semiseg_jax.methods.health import pseudo_label_health
from semiseg_jax.methods.passes import Passes
from semiseg_jax.ops import losses, photometry
from semiseg_jax.ops.boxes import inside_boxes
from semiseg_jax.ops.cutmix import draw_box_masks, draw_single_box_masks
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.ops.ramps import ramp
from semiseg_jax.ops.resize import resize_bilinear

Tree = Any
Maps = dict[str, jax.Array]


class Teaching(NamedTuple):
  """Pseudo labels of a stream that the networks have learned from.

  Attributes:
    Y: uint8 [N,B,H,W], those that network k learned from, IGNORE where there are none; of full size
      or of the head's.
    of: the stream of the batch that its pictures were made of.
  """

  Y: jax.Array
  of: str


class Step(Passes):
  """One step of a method, within one trace.

  Attributes:
    c: the config.
    t: the step, int32.
    phase: names of what takes part, of the method itself or of the term that asks.
    metrics, shown: what was logged and shown.
    taught: what the loss said with `teaches`, by stream.

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
    class_weights: of the supervised loss, one per class; () = equal ones.
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
    class_weights: tuple[float, ...] = (),
  ):
    self._class_weights = class_weights
    self.c, self.t, self._phases = c, t, phase
    self.phase = frozenset(name for name in phase if "." not in name)  # of the method itself
    super().__init__(members, params, stats, dict(_every_stream(batch, sources)), key)
    self.memories = dict(memory)
    self.metrics: dict[str, tuple[Any, Any]] = {}
    self.shown: dict[str, jax.Array] = {}
    self.taught: dict[str, Teaching] = {}
    self._part = self._method = part
    self._owners: dict[str, str] = {}  # name of a metric -> the part that logged it
    self._pictures: dict[tuple[str, int], jax.Array] = {}

  @contextlib.contextmanager
  def belonging_to(self, name: str, module: ModuleType) -> Iterator[None]:
    """Inside, memory, phase and the shape of ramps are those of another part: a term."""
    before, self._part = (self._part, self.phase), (name, module)
    own = f"{name}."
    self.phase = frozenset(p.removeprefix(own) for p in self._phases if p.startswith(own))
    yield
    self._part, self.phase = before

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
      images = self.pixels(stream)
      if strong:
        images = self.strong(images, stream, strong)
      valid = self._batch[stream]["valid"] if self.c.data.padding == "mean" else None
      self._pictures[stream, strong] = self._normalize(images, valid)
    return self._pictures[stream, strong]

  def pixels(self, stream: str) -> jax.Array:
    """Returns pictures uint8 [B,H,W,C] after what is done to every picture, before any view."""
    fields, data = self._batch[stream], self.c.data
    labels = fields["source"] == "labeled"
    kind = data.labeled_photometry if labels else data.unlabeled_photometry
    if kind == "none":
      return fields["image"]
    keys = example_keys(self._key, fields["photometry"], fields["row"])
    return photometry.every_view(fields["image"], keys, kind, self.c)

  def strong(self, images: jax.Array, stream: str, view: int) -> jax.Array:
    """Returns the strong view of pictures uint8 [B,H,W,C] that were made of a stream."""
    return photometry.strong_view(images, self.keys(f"strong_{view}", stream), self.c)

  def normalized(self, images: jax.Array, inside: jax.Array) -> jax.Array:
    """Returns pictures uint8 [B,H,W,C] normalized; `inside`, bool [B,H,W], is false on padding."""
    x = self._normalize(images, None)
    return jnp.where(inside[..., None], x, 0) if self.c.data.padding == "mean" else x

  def _normalize(self, images: jax.Array, valid: jax.Array | None) -> jax.Array:
    mean, std = tuple(self.c.data.mean), tuple(self.c.data.std)
    return normalize(images, valid, mean, std, jnp.result_type(float))

  def y(self, stream: str) -> jax.Array:
    """Returns labels uint8 [B,H,W]; of unlabeled pictures the hidden ones, for health only."""
    return self._batch[stream]["label"]

  def target(self, stream: str) -> jax.Array:
    """Returns stored pseudo labels uint8 [B,H,W], IGNORE where there are none."""
    target, data = self._batch[stream]["target"], self._has_data(stream)
    return target if data is None else jnp.where(data, target, jnp.uint8(IGNORE))

  def confidence(self, stream: str) -> jax.Array:
    """Returns the stored confidence of `target`, float32 [B,H,W] from 0 to 1."""
    return self._batch[stream]["confidence"].astype(jnp.float32) / 255

  def inside(self, stream: str, unless: str = "") -> jax.Array:
    """Returns bool [B,H,W]: neither padding nor without data.

    Padding counts too where the quirk `unless` is asked for.
    """
    shape, data = self._batch[stream]["image"].shape[:3], self._has_data(stream)
    padded = jnp.ones(shape, bool) if unless in self.c.method.compat else self.unpadded(stream)
    return padded if data is None else padded & data

  def unpadded(self, stream: str) -> jax.Array:
    """Returns bool [B,H,W]: not padding."""
    fields = self._batch[stream]
    return inside_boxes(fields["valid"], *fields["image"].shape[1:3])

  def _has_data(self, stream: str) -> jax.Array | None:
    """Bool [B,H,W], true on padding; None where all pixels of all pictures have data."""
    data = self._batch[stream].get(HAS_DATA)
    return None if data is None else data > 0

  def geometry(self, stream: str) -> jax.Array:
    """Returns int32 [B,6] of a stream of pairs: dy, dx, vh, vw, flip_1, flip_2."""
    return self._batch[stream]["geometry"]

  # Randomness.

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

  def single_box(self, stream: str, use: int) -> jax.Array:
    """Returns masks of one box at most, bool [B,H,W], by `method.box_p`; others for each `use`."""
    height, width = self._batch[stream]["image"].shape[1:3]
    keys = self.keys(f"single_box_{use}", stream)
    return draw_single_box_masks(keys, height=height, width=width, probability=self.c.method.box_p)

  # Losses and numbers.

  def supervised(
    self,
    P: jax.Array,
    y: jax.Array,
    own: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
  ) -> jax.Array:
    """Returns the supervised loss [N] of logits [N,B,H,W,C] and labels [B,H,W]; logs its parts.

    `own`, (P, y) -> (loss [N], pixels that took part [N]), replaces that of the config.

    Raises:
      ConfigError: weights of classes beside a loss of the method's own.
    """
    if own and self.c.method.class_weighting != "equal":
      raise ConfigError(
        f"method.class_weighting={self.c.method.class_weighting!r}: the supervised loss that "
        f"method.name={self.c.method.name!r} was asked for is one of its own and takes no weights; "
        f"leave it at 'equal', or the keys of method.{self.c.method.name} at their defaults."
      )
    loss, pixels = (own or self.of_config)(P, y)
    for k in range(len(loss)):
      self.log(f"supervised_{k}", loss[k])
    self.log("supervised_pixels", pixels.sum(), float(len(loss) * y.size))
    return loss

  def of_config(self, P: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the config's loss [N] of logits [N,B,H,W,C] and labels, and its pixels; no log."""
    m = self.c.method
    return losses.supervised_loss(
      P,
      y,
      kind=m.supervised_loss,
      group=m.loss_group,
      ohem_threshold=m.ohem_threshold,
      ohem_kept_fraction=m.ohem_kept_fraction,
      weights=self._class_weights,
      gamma=m.focal_gamma,
    )

  def auxiliary(self, stream: str, y: jax.Array) -> jax.Array:
    """Returns the config's loss [N] of the auxiliary logits of a stream, 0 where there are none."""
    P = self.seen["networks"][stream].get("aux_logits")
    if P is None:
      return jnp.zeros(self.copies("networks"))
    P = resize_bilinear(P, y.shape[1:], align_corners=self.align_corners("networks"))
    loss, _ = self.of_config(P, y)
    self.log("auxiliary", loss.sum(), float(len(loss)))
    return loss

  def groups(self, y: jax.Array) -> int:
    """Returns into how many groups that share a mean a batch with these labels [B,H,W] falls."""
    return len(y) // self.c.method.loss_group if self.c.method.loss_group else 1

  @property
  def first_end(self) -> int:
    """The steps that the run began with, before its `train.steps` were raised."""
    return segments.first_end(self.c.optimizer.continued, self.c.train.steps)

  def course(self) -> jax.Array:
    """Returns the share of those steps that is done, at most 1: what is spread over a run."""
    t, end = self.t, self.first_end
    return (jnp.minimum(t, end) if self.c.optimizer.continued else t) / end

  def weight(self) -> jax.Array:
    """Returns lambda at this step: 0 before `weight_start`, from where it rises."""
    m = self.c.method
    shape = m.weight_ramp or getattr(self._part[1], "RAMP", "linear")
    if not m.weight_start:
      return m.weight * ramp(shape, self.t, m.weight_ramp_steps)
    rise = ramp(shape, self.t - m.weight_start, m.weight_ramp_steps)
    return m.weight * jnp.where(self.t < m.weight_start, 0, rise)

  def hide_padding(self, stream: str, Y: jax.Array, unless: str = "") -> jax.Array:
    """Returns labels [N,B,H,W], IGNORE where `inside` is false."""
    if unless in self.c.method.compat and self._has_data(stream) is None:
      return Y
    return jnp.where(self.inside(stream, unless)[None], Y, jnp.uint8(IGNORE))

  def log(self, name: str, total: Any, count: Any = 1.0) -> None:
    """Logs a mean as its sum and count; both add up over steps before they are divided.

    A name of a term that the method logs as well becomes TERM/name.

    Raises:
      ValueError: a name that the same part logged before in this step.
    """
    name = self._name_of_part(name)
    if name in self.metrics:
      raise ValueError(f"{name!r} is logged twice in a step.")
    self.metrics[name] = (total, count)
    self._owners[name] = self._part[0]

  def _name_of_part(self, name: str) -> str:
    """The name under which the method, or the term that asks, logs."""
    owner, method = self._owners.get(name, self._part[0]), self._method
    taken = self._part is not method and name in getattr(method[1], "LOGS", ())
    return f"{self._part[0]}/{name}" if taken or owner != self._part[0] else name

  def health(self, Y: jax.Array, truth: jax.Array, classes: int) -> None:
    """Logs how good pseudo labels [N,B,H,W] are against hidden labels [B,H,W]."""
    for name, (total, count) in pseudo_label_health(Y, truth, classes).items():
      self.log(name, total, count)

  def teaches(self, stream: str, Y: jax.Array, of: str = "unlabeled") -> None:
    """Says from which pseudo labels the networks learn on a stream they saw, see `Teaching`.

    Terms on top of the loss learn from them as well.

    Raises:
      ValueError: the method's file does not say TEACHES = True, by which a config is checked.
    """
    name, module = self._method
    if not getattr(module, "TEACHES", False):
      raise ValueError(f"{name} teaches {stream!r}: its file has to say TEACHES = True.")
    self.taught[stream] = Teaching(Y.astype(jnp.uint8), of)

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
    yield name, {"photometry": f"{name}/image", **first, "source": source}
    second = {k.removesuffix("_2"): v for k, v in fields.items() if k.endswith("_2")}
    if second:
      shared = {k: fields[k] for k in ("row", "index", "geometry")}
      drawn = {"photometry": f"{name}/image_2", "source": source}
      yield f"{name}_2", {**second, **shared, **drawn}
