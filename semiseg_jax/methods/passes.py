"""The networks of one step: passes on streams; batch statistics go from one to the next."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

from semiseg_jax import stacks
from semiseg_jax.members import Member, copies, full_size, joined, seen_by
from semiseg_jax.ops.keys import example_keys

Tree = Any
Maps = dict[str, jax.Array]
# (use, stream) -> the name under which runs of before the stream was a part of it drew.
_RECORDED = {
  ("cutmix", "unlabeled"): "cutmix",
  ("anchors", "labeled"): "anchors",
  ("memory", "labeled"): "memory",
}


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

  def each(self, change: Callable[[int, str, jax.Array], jax.Array]) -> "Features":
    """Returns features of the maps change(number of the member, name, map)."""
    changed = ({k: change(i, k, e) for k, e in maps.items()} for i, maps in enumerate(self.maps))
    return Features(tuple(changed), self.size)


class Passes:
  """Runs the nets of a method within one trace.

  Attributes:
    params, stats: by stack; `stats` are those after the passes so far.
    seen: {net: {stream: {name of the output: maps}}} of the passes with gradients so far, at the
      strides of the heads ('full': the logits at full size), for terms on top of a loss.

  Args of the constructor:
    members: net -> its members.
    params, stats: by stack.
    batch: {stream: fields}.
    key: of this step.
  """

  def __init__(
    self,
    members: Mapping[str, tuple[Member, ...]],
    params: Tree,
    stats: Tree,
    batch: Mapping[str, Tree],
    key: jax.Array,
  ):
    self.params, self.stats = params, dict(stats)
    self.seen: dict[str, dict[str, Maps]] = {}
    self._members, self._batch, self._key = members, batch, key
    self._drawn: dict[tuple[str, str], int] = {}
    self._trace = get_opaque_trace_state()

  def keys(self, use: str, stream: str) -> jax.Array:
    """Returns random keys [B] for a named use of a stream, by its rows in the global batch."""
    name = _RECORDED.get((use, stream), f"{stream}/{use}")
    return example_keys(self._key, name, self._batch[stream]["row"])

  def copies(self, name: str) -> int:
    """Returns N of a net."""
    return copies(self._members[name])

  def feature_info(self, name: str) -> dict[str, tuple[int, int]]:
    """Returns (stride, channels) of each feature of a net's first member, in their order."""
    return self._members[name][0].stack.network.feature_info

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
        stride; 'head': logits at the stride of the head; 'all': {name: maps} of each stream, as in
        `seen`.
      block: so many copies are run at a time and once more in the backward pass; 0 = all at once.
    """
    sizes = {stream: x.shape[-3:-1] for stream, x in streams.items()}
    drops = self._dropout(name, streams, bn, grad, dropout)
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups, "dropout": drops}
    outputs = []
    for member in self._members[name]:
      x = {stream: seen_by(member, x) for stream, x in streams.items()}
      outputs.append(self._run(stacks.apply, member, x, options, block))
    return self._joined(name, outputs, sizes, grad, out)

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
    drops = self._dropout(name, streams, bn, grad, None, whole=False)
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups, "dropout": drops}
    features = []
    for member in self._members[name]:
      x = {stream: seen_by(member, x) for stream, x in streams.items()}
      features.append(self._run(stacks.encode, member, x, options))
    return {
      stream: Features(tuple(maps[stream] for maps in features), x.shape[-3:-1])
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
    drops = self._dropout(name, {k: f.maps[0] for k, f in features.items()}, bn, grad, None)
    options = {"bn": bn, "grad": grad, "frozen": frozen, "groups": groups, "dropout": drops}
    outputs = []
    for i, member in enumerate(self._members[name]):
      maps = {stream: f.maps[i] for stream, f in features.items()}
      outputs.append(self._run(stacks.decode, member, maps, options))
    sizes = {stream: f.size for stream, f in features.items()}
    return self._joined(name, outputs, sizes, grad, out)

  def pure(self, name: str) -> Callable[..., Maps]:
    """Returns run(streams, params=None, stats=None, bn=...) -> logits at full size.

    The same as `net` without bookkeeping, for use under grad, vmap or scan: statistics do not move,
    and nothing is remembered.  `params` and `stats`, by stack, replace those of the net; they may
    be of fewer copies.  `size` is that of the logits; None: that of the streams.
    """

    def run(
      streams: Mapping[str, jax.Array],
      params: Tree = None,
      stats: Tree = None,
      *,
      bn: str = "eval",
      grad: bool = True,
      frozen: bool = False,
      size: tuple[int, int] | None = None,
    ) -> Maps:
      params, stats = params or self.params, stats or self.stats
      sizes = {stream: size or x.shape[-3:-1] for stream, x in streams.items()}
      outputs = []
      for member in self._members[name]:
        x = {stream: seen_by(member, x) for stream, x in streams.items()}
        s = stacks.of_copies(member.stack, params[member.stack.name])
        maps, _ = stacks.apply(s, params[s.name], stats[s.name], x, bn=bn, grad=grad, frozen=frozen)
        outputs.append(maps)
      return full_size(self._members[name], outputs, sizes)

    return run

  def _dropout(
    self, net: str, streams: Mapping[str, Any], bn: str, grad: bool, given: Any, whole: bool = True
  ) -> Any:
    """Other masks for every net, stream and pass; an encoder alone is no `whole` pass."""
    if given is not None or bn != "train" or not grad:
      return given
    keys = {}
    for stream, x in streams.items():
      n = self._drawn.get((net, stream), 0)
      self._drawn[net, stream] = n + whole
      name = f"{net}/{stream}/dropout/{n}"
      if (net, stream, n) == ("networks", "labeled", 0):
        name = "dropout"  # as runs of pixel contrast were begun
      keys[stream] = example_keys(self._key, name, self._batch[self._rows_of(stream, x)]["row"])
    return keys

  def _rows_of(self, stream: str, x: Tree) -> str:
    """The stream whose rows number those of `x`: mixed pictures have names of their own."""
    if stream in self._batch:
      return stream
    rows = jax.tree.leaves(x)[0].shape[-4]
    return next(k for k, f in self._batch.items() if len(f["image"]) == rows)

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

  def _joined(self, name: str, outputs: list[Tree], sizes: Tree, grad: bool, out: str) -> Maps:
    logits = full_size(self._members[name], outputs, sizes)
    maps = {stream: {"full": full} for stream, full in logits.items()}
    if len(outputs) == 1:  # members of a family have other strides
      maps = {stream: maps[stream] | outputs[0][stream] for stream in maps}
    if grad:
      self.seen.setdefault(name, {}).update(maps)
    if out == "all":
      return maps
    if out == "logits":
      return logits
    out = "logits" if out == "head" else out
    return {stream: joined([f[stream][out] for f in outputs]) for stream in sizes}
