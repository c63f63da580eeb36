"""N networks of one architecture as ONE stacked parameter PyTree, and the only way to run them.

Every leaf of a stack's parameters and batch statistics has a leading axis n.  `encode`, `decode`
and `apply` run all copies inside one `shard_map` over the mesh: there each device holds its local
copies and its local rows, joins the streams (a plain local concatenation) and runs the copies in a
Python loop.  A `vmap` over stacked convolution kernels in an auto-sharded program gives wrong
gradients without an error; nothing here does that, and nothing elsewhere runs a network.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from semiseg_jax import sharding
from semiseg_jax.errors import ConfigError
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.parts import Parts

Tree = Any
Streams = Mapping[str, jax.Array]
StreamMaps = dict[str, dict[str, jax.Array]]
Groups = Sequence[Sequence[str]]
# stream -> one random key per image [B], or path of a dropout's module -> what it keeps [n,B,...]
Dropout = Mapping[str, jax.Array | Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Stack:
  """A named stack: n copies of `network`, to be run on `mesh`.

  bn_group: contiguous images of every stream that share batch statistics, 0 = all of them.
  first: the number of its first copy, where the stack is a part of another one.
  frozen_statistics: every call runs with bn='eval', whatever it asks for.
  """

  name: str
  n: int
  network: Parts
  mesh: Mesh
  bn_group: int
  first: int
  frozen_statistics: bool


def whole(name: str, n: int, network: Parts, mesh: Mesh) -> Stack:
  """Returns a stack that is no part of another, with statistics of whole batches."""
  return Stack(name, n, network, mesh, 0, 0, False)


def init(stack: Stack, seed: int) -> tuple[Tree, Tree]:
  """Returns the parameters and batch statistics, numpy [n, ...], each copy drawn on its own."""
  words = zlib.crc32(stack.name.encode())
  copies = [stack.network.init((seed, words, k)) for k in range(stack.n)]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *copies)


def shapes(stack: Stack) -> tuple[Tree, Tree]:
  """Returns the parameters and batch statistics as placed `jax.ShapeDtypeStruct`s [n, ...]."""
  placed = sharding.stack_sharding(stack.mesh, stack.n)
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((stack.n, *leaf.shape), leaf.dtype, sharding=placed),
    stack.network.shapes(),
  )


def of_copies(stack: Stack, params: Tree) -> Stack:
  """Returns the stack of as many copies as the parameters [n, ...] have."""
  n = len(jax.tree.leaves(params)[0])
  return stack if n == stack.n else dataclasses.replace(stack, n=n)


def take(tree: Tree, k: int) -> Tree:
  """Returns copy k of a stacked tree, as a stack of one."""
  return jax.tree.map(lambda leaf: leaf[k : k + 1], tree)


def encode(
  stack: Stack,
  params: Tree,
  stats: Tree,
  streams: Streams,
  *,
  bn: str,
  groups: Groups | None = None,
  grad: bool = True,
  frozen: bool = False,
  dropout: Dropout | None = None,
) -> tuple[StreamMaps, Tree]:
  """Runs the encoders: returns the features per stream, [n,B,h,w,C] each, and the new statistics.

  Args:
    stack: what to run.
    params: stacked parameters.
    stats: stacked batch statistics.
    streams: name -> images [B,H,W,C] shared by all copies, or [n,B,H,W,C] one batch per copy.
    bn: 'train' (own statistics, the running ones move), 'batch' (own, they stay), 'eval' (running).
    groups: streams of one group share batch statistics, groups never mix; the running statistics
      move once per group in this order (with `bn_group`: for the first k images, the next k, ...).
      None: every stream is a group, in the order given (a dict that went through `jit` is sorted
      by name).
    grad: False stops gradients at parameters and inputs.
    frozen: True stops gradients at the parameters only.
    dropout: for every stream its random keys (each copy draws its own masks from them) or the
      masks themselves; None: no dropout.
  """
  params, streams = _stopped(params, streams, grad, frozen)

  def run(network: Parts, p: Tree, s: Tree, x: jax.Array, mode: Mode) -> tuple[Tree, Tree]:
    return network.encode(p, s, x, mode)

  return _run(stack, run, params, stats, streams, bn, groups, dropout)


def decode(
  stack: Stack,
  params: Tree,
  stats: Tree,
  features: StreamMaps,
  *,
  bn: str,
  groups: Groups | None = None,
  grad: bool = True,
  frozen: bool = False,
  dropout: Dropout | None = None,
) -> tuple[StreamMaps, Tree]:
  """Runs the decoders on features [n,B,h,w,C] per stream: returns outputs and new statistics.

  The arguments are those of `encode`.  Logits are float32 [n,B,h,w,K] at the head's stride.
  """
  params, features = _stopped(params, features, grad, frozen)

  def run(network: Parts, p: Tree, s: Tree, f: Tree, mode: Mode) -> tuple[Tree, Tree]:
    return network.decode(p, s, f, mode)

  return _run(stack, run, params, stats, features, bn, groups, dropout)


def apply(
  stack: Stack,
  params: Tree,
  stats: Tree,
  streams: Streams,
  *,
  bn: str,
  groups: Groups | None = None,
  grad: bool = True,
  frozen: bool = False,
  dropout: Dropout | None = None,
) -> tuple[StreamMaps, Tree]:
  """`encode` then `decode` with the same groups, in one call.  The arguments are `encode`'s."""
  params, streams = _stopped(params, streams, grad, frozen)

  def run(network: Parts, p: Tree, s: Tree, x: jax.Array, mode: Mode) -> tuple[Tree, Tree]:
    features, s = network.encode(p, s, x, mode)
    return network.decode(p, s, features, mode)

  return _run(stack, run, params, stats, streams, bn, groups, dropout)


def apply_in_blocks(
  stack: Stack,
  params: Tree,
  stats: Tree,
  streams: Streams,
  *,
  block: int,
  **options: Any,
) -> tuple[StreamMaps, Tree]:
  """`apply` to so many copies at a time, each block once more in the backward pass.

  The activations of only one block are kept.  Streams, dropout and results are those of `apply`.

  Args:
    stack: what to run.
    params: stacked parameters.
    stats: stacked batch statistics.
    streams: name -> images [B,H,W,C], or [n,B,H,W,C].
    block: copies per block; the last block may have fewer.
    **options: see `encode`.
  """
  found = []
  for first in range(0, stack.n, block):
    span = slice(first, min(first + block, stack.n))
    part = dataclasses.replace(stack, n=span.stop - first, first=stack.first + first)
    x = {name: x[span] if x.ndim == 5 else x for name, x in streams.items()}
    run = jax.checkpoint(functools.partial(apply, part, **options))
    found.append(run(*jax.tree.map(lambda leaf, span=span: leaf[span], (params, stats)), x))
  return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def _stopped(params: Tree, inputs: Tree, grad: bool, frozen: bool) -> tuple[Tree, Tree]:
  if frozen or not grad:
    params = jax.lax.stop_gradient(params)
  if not grad:  # name by name: a dict that goes through a tree function comes back sorted
    inputs = {name: jax.lax.stop_gradient(x) for name, x in inputs.items()}
  return params, inputs


@dataclasses.dataclass(frozen=True)
class _Call:
  """One call of a stack, as a device runs it.

  run: on (network, parameters, statistics, joined inputs, mode) of one copy.  groups: streams that
  share batch statistics.  per_copy: the streams whose inputs have the axis of copies.  axes: of the
  mesh, over which the rows of a stream lie.
  """

  stack: Stack
  run: Callable[[Parts, Tree, Tree, Any, Mode], tuple[Tree, Tree]]
  bn: str
  groups: tuple[tuple[str, ...], ...]
  per_copy: frozenset[str]
  axes: tuple[str, ...]

  @property
  def order(self) -> list[str]:
    """The streams, group by group."""
    return [name for group in self.groups for name in group]


def _run(
  stack: Stack,
  run: Callable[[Parts, Tree, Tree, Any, Mode], tuple[Tree, Tree]],
  params: Tree,
  stats: Tree,
  inputs: Mapping[str, Any],
  bn: str,
  groups: Groups | None,
  dropout: Dropout | None,
) -> tuple[StreamMaps, Tree]:
  """Runs `run` for every local copy on the local rows of all streams, joined group by group."""
  held = sharding.holds_stack(stack.mesh, stack.n)
  copies, rows = ("replica", "data") if held else (None, ("replica", "data"))
  call = _Call(
    stack,
    run,
    "eval" if stack.frozen_statistics else bn,
    tuple((name,) for name in inputs) if groups is None else tuple(map(tuple, groups)),
    # Features always carry the axis of copies.
    frozenset(name for name, x in inputs.items() if isinstance(x, Mapping) or x.ndim == 5),
    ("data",) if held else ("replica", "data"),
  )
  _check_names(call, inputs, dropout)
  input_specs = {name: P(copies, rows) if name in call.per_copy else P(rows) for name in inputs}
  dropout = dict(dropout or {})
  dropout_specs = {
    name: P(copies, rows) if isinstance(given, Mapping) else P(rows)
    for name, given in dropout.items()
  }
  return jax.shard_map(
    functools.partial(_run_local, call),
    mesh=stack.mesh,
    in_specs=(P(copies), P(copies), input_specs, dropout_specs, P(copies)),
    out_specs=(P(copies, rows), P(copies)),
  )(params, stats, dict(inputs), dropout, stack.first + jnp.arange(stack.n))


def _check_names(call: _Call, inputs: Mapping[str, Any], dropout: Dropout | None) -> None:
  name, groups = call.stack.name, call.groups
  if sorted(call.order) != sorted(inputs):
    raise ValueError(f"{name}: groups {groups} must name each of {list(inputs)} once.")
  if dropout is not None and sorted(dropout) != sorted(inputs):
    raise ValueError(f"{name}: dropout {list(dropout)} must be given for {list(inputs)}.")


def _run_local(
  call: _Call, params: Tree, stats: Tree, inputs: Tree, dropout: Tree, copy: jax.Array
) -> tuple[StreamMaps, Tree]:
  """What one device does: its copies, one after the other, on its rows."""
  order, network = call.order, call.stack.network
  per_copy = {name: name in call.per_copy for name in order}
  rows_of = {name: jax.tree.leaves(inputs[name])[0].shape[int(per_copy[name])] for name in order}
  parts, span = _shared_statistics(call.stack, rows_of)
  chunks = _chunks(call.groups, rows_of, parts)
  join = lambda xs: _joined([xs[chunk.stream][chunk.rows] for chunk in chunks])

  @jax.jit  # traced, differentiated and lowered once for all copies; XLA inlines the calls
  def run(p: Tree, s: Tree, joined: Any, drawn: Tree) -> tuple[Tree, Tree]:
    draws = None if drawn is None else Draws(**drawn)
    mode = network.mode(call.bn, _group_sizes(chunks), call.axes, draws, span)
    return call.run(network, p, s, joined, mode)

  outputs, new_stats = [], []
  for k in range(len(jax.tree.leaves(params)[0])):
    of_copy = functools.partial(jax.tree.map, functools.partial(_at, k=k))
    local = [of_copy(inputs[name]) if per_copy[name] else inputs[name] for name in order]
    joined = jax.tree.map(lambda *xs: join(dict(zip(order, xs))), *local)
    p, s = of_copy((params, stats))
    drawn = _drawn([dropout[name] for name in order], k, copy[k], order, join) if dropout else None
    output, s = run(p, s, joined, drawn)
    outputs.append(output)
    new_stats.append(s)
  output, stats = (jax.tree.map(lambda *xs: jnp.stack(xs), *t) for t in (outputs, new_stats))
  pieces = lambda name: jax.tree.map(lambda x: _joined(_pieces(x, chunks, name), axis=1), output)
  return {name: pieces(name) for name in order}, stats


def _at(x: jax.Array, k: int) -> jax.Array:
  """x[k], traced several times faster."""
  return jax.lax.index_in_dim(x, k, keepdims=False)


def _drawn(
  given: Sequence[jax.Array | Mapping[str, jax.Array]],
  k: int,
  copy: jax.Array,
  order: Sequence[str],
  join: Callable[[Mapping[str, jax.Array]], jax.Array],
) -> Tree:
  """The fields of `Draws` of local copy k, number `copy` of the stack, for the joined streams."""
  if isinstance(given[0], Mapping):
    masks = lambda path: dict(zip(order, (part[path][k] for part in given)))
    return {"masks": {path: join(masks(path)) for path in given[0]}}
  keys = join(dict(zip(order, given)))
  return {"keys": jax.vmap(lambda key: jax.random.fold_in(key, copy))(keys)}


@dataclasses.dataclass(frozen=True)
class _Chunk:
  """Rows of a stream that follow each other in the joined batch; `group` counts groups."""

  stream: str
  rows: slice
  group: int


def _shared_statistics(stack: Stack, rows_of: Mapping[str, int]) -> tuple[int, int]:
  """Into how many parts the local rows of a stream fall, and how many devices share one (0: all).

  Raises:
    ConfigError: `bn_group` neither divides the rows of a device nor is a multiple of them.
  """
  k = stack.bn_group
  if not k:
    return 1, 0
  if all(rows % k == 0 for rows in rows_of.values()):
    (parts, *others) = {rows // k for rows in rows_of.values()}
    if not others:
      return parts, 1
  elif all(k % rows == 0 for rows in rows_of.values()) and len(set(rows_of.values())) == 1:
    return 1, k // next(iter(rows_of.values()))
  raise ConfigError(
    f"train.bn_group={k} does not fit the rows that a device holds, {dict(rows_of)}: it must "
    "divide them, equally often in every stream of a call, or be a multiple of them."
  )


def _chunks(groups: Groups, rows_of: Mapping[str, int], parts: int) -> list[_Chunk]:
  """The order of the joined batch: part by part, in it group by group, in it stream by stream."""
  found = []
  for part in range(parts):
    for g, group in enumerate(groups):
      for name in group:
        size = rows_of[name] // parts
        rows = slice(part * size, (part + 1) * size)
        found.append(_Chunk(name, rows, part * len(groups) + g))
  return found


def _group_sizes(chunks: Sequence[_Chunk]) -> tuple[int, ...]:
  sizes = [0] * (chunks[-1].group + 1)
  for chunk in chunks:
    sizes[chunk.group] += chunk.rows.stop - chunk.rows.start
  return tuple(sizes)


def _pieces(x: jax.Array, chunks: Sequence[_Chunk], stream: str) -> list[jax.Array]:
  """The parts [n,b,...] of a joined map that belong to a stream, in the stream's order."""
  start, found = 0, []
  for chunk in chunks:
    end = start + chunk.rows.stop - chunk.rows.start
    if chunk.stream == stream:
      found.append(x[:, start:end])
    start = end
  return found


def _joined(parts: Sequence[jax.Array], axis: int = 0) -> jax.Array:
  return jnp.concatenate(parts, axis) if len(parts) > 1 else parts[0]
