"""Networks of unlike architectures as one: each runs on its own, their full-size maps are joined.

A net of N copies has members; a member is a stack of copies of one architecture.  Most nets have
one member.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.stacks import Stack, StreamMaps


@dataclasses.dataclass(frozen=True)
class Member:
  """Some copies of a net: those of one architecture.

  Attributes:
    stack: how to run them.
    first: their place among the copies of the net.
    shift, scale: per channel; pictures x become x * scale + shift, its own normalization; () keeps
      that of the data.
  """

  stack: Stack
  first: int = 0
  shift: tuple[float, ...] = ()
  scale: tuple[float, ...] = ()


def copies(members: Sequence[Member]) -> int:
  """Returns N, the copies of a net."""
  return sum(member.stack.n for member in members)


def seen_by(member: Member, x: jax.Array) -> jax.Array:
  """Returns what a member sees of maps [B,H,W,C] or [N,B,H,W,C].

  Its own copies' batches, in its own normalization, with sides that its network takes.
  """
  if x.ndim == 5:
    x = x[member.first : member.first + member.stack.n]
  if member.scale:
    ones = (1,) * (x.ndim - 1)
    scale, shift = (jnp.asarray(v, x.dtype) for v in (member.scale, member.shift))
    x = x * scale.reshape(*ones, -1) + shift.reshape(*ones, -1)
  return resize_bilinear(x, member.stack.network.fitted(x.shape[-3:-1]), align_corners=True)


def full_size(
  members: Sequence[Member], outputs: Sequence[StreamMaps], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, jax.Array]:
  """Returns the logits of a net, stream -> [N,B,H,W,C], by each network's own resize rule.

  Args:
    members: of the net.
    outputs: of each member, stream -> name -> maps.
    sizes: stream -> (H, W).
  """
  return {stream: joined([_full(m, o[stream], size) for m, o in zip(members, outputs)])
          for stream, size in sizes.items()}  # fmt: skip


def _full(member: Member, outputs: Mapping[str, jax.Array], size: tuple[int, int]) -> jax.Array:
  """Where pictures were fitted, logits follow back the same way, with aligned corners."""
  network = member.stack.network
  fitted = network.fitted(size)
  logits = resize_bilinear(outputs["logits"], fitted, align_corners=network.align_corners)
  return resize_bilinear(logits, size, align_corners=True)


def joined(maps: Sequence[jax.Array]) -> jax.Array:
  """Joins maps [n,...] of the members of a net on the axis of copies."""
  return maps[0] if len(maps) == 1 else jnp.concatenate(maps)
