"""Contrast with negatives from unreliable pixels (U2PL; Wang et al., CVPR 2022)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.class_memory import Rings, held, push
from semiseg_jax.ops.class_sets import (
  drawn,
  info_nce,
  mean_over_present,
  own,
  prototypes,
  sets_of,
)
from semiseg_jax.ops.contrast_pools import flat_labels, flat_maps
from semiseg_jax.ops.keys import named_key
from semiseg_jax.ops.resize import resize_bilinear

Maps = Mapping[str, jax.Array]


class Seen(NamedTuple):
  """The pixels of a batch at the stride of the embeddings, of one network and its teacher.

  Attributes:
    E: the student's embeddings [P,D]; the gradient goes here.
    T: the teacher's [P,D].
    p: the teacher's probabilities [P,C].
    y: labels and pseudo labels, uint8 [P], IGNORE where there are none.
    low: bool [P], reliable: labeled, or of low entropy.
    high: bool [P], candidates for negatives: labeled, or of high entropy.
    labeled: bool [P].
  """

  E: jax.Array
  T: jax.Array
  p: jax.Array
  y: jax.Array
  low: jax.Array
  high: jax.Array
  labeled: jax.Array


def seen_of(
  student: Sequence[Maps],
  teacher: Sequence[Maps],
  labels: Sequence[jax.Array],
  low: Sequence[jax.Array],
  high: Sequence[jax.Array],
  *,
  align_corners: bool,
) -> Seen:
  """Returns the pixels of N networks, with a leading axis N, at the stride of the embeddings.

  Args:
    student: of the labeled and of the unlabeled stream: 'embedding' [N,B,h,w,D].
    teacher: the same, and 'logits', which are resized where they have another stride.
    labels: of both streams, uint8 [N,B,H,W].
    low: bool [N,B,H,W].
    high: bool [N,B,H,W].
    align_corners: how logits are resized.
  """
  size = student[0]["embedding"].shape[2:4]
  logits = [resize_bilinear(maps["logits"], size, align_corners) for maps in teacher]
  is_labeled = [jnp.full(y.shape, first) for y, first in zip(labels, (True, False))]
  return Seen(
    flat_maps([maps["embedding"] for maps in student]),
    flat_maps([maps["embedding"] for maps in teacher]),
    jax.nn.softmax(flat_maps(logits), axis=-1),
    *(flat_labels(parts, size) for parts in (labels, low, high, is_labeled)),
  )


def ranks(p: jax.Array) -> jax.Array:
  """Returns the rank of each class in its pixel, 0 = most likely: int32 [P,C] of p [P,C].

  A tie ranks the lower class first.
  """
  C = p.shape[-1]
  earlier = jnp.tri(C, k=-1, dtype=bool).T  # [k,c]: k < c
  mine, theirs = p[:, None], p[..., None]
  above = (theirs > mine) | ((theirs == mine) & earlier[None])
  return above.sum(1, dtype=jnp.int32)


def negatives_of(seen: Seen, low_rank: int, high_rank: int, own_class: bool = False) -> jax.Array:
  """Returns of which classes each pixel is a negative, bool [P,C].

  A labeled pixel is a negative of likely classes, ranked below `low_rank`, but not of its own.  An
  unlabeled pixel of high entropy is a negative of classes ranked `low_rank` to `high_rank` - 1.

  own_class: as published: only of the class that its label or pseudo label names, which leaves no
    labeled pixel and few others.
  """
  rank, classes = ranks(seen.p), jnp.arange(seen.p.shape[-1])[None]
  is_own = seen.y[:, None].astype(jnp.int32) == classes
  known = (seen.y != IGNORE) & seen.labeled
  of_labeled = known[:, None] & ~is_own & (rank < low_rank)
  of_others = ~seen.labeled[:, None] & (rank >= low_rank) & (rank < high_rank)
  found = seen.high[:, None] & (of_labeled | of_others)
  return found & is_own if own_class else found


def memory_contrast(
  seen: Seen,
  rings: Rings,
  key: jax.Array,
  *,
  sizes: Sequence[int],
  entering: int,
  low_rank: int,
  high_rank: int,
  probability: float,
  anchors: int,
  negatives: int,
  temperature: float,
  own_class: bool = False,
  shifted: bool = False,
) -> tuple[jax.Array, Rings]:
  """Returns L_c and the memory after this batch, whose negatives enter before any is drawn.

  Per class: anchors are the student's embeddings of reliable pixels whose probability of their
  class is above delta_p, the positive is the mean of the teacher's over all reliable ones, and each
  anchor has N negatives from the class's ring.

  Args:
    seen: the batch.
    rings: the memory of this network.
    key: of this step and network.
    sizes: of the rings.
    entering: the most negatives of a class that enter.
    low_rank, high_rank: r_l and r_h.
    probability: delta_p.
    anchors: M of a class.
    negatives: N, of an anchor.
    temperature: tau.
    own_class: see `negatives_of`.
    shifted: as published: the i-th class is compared with the ring of the i-th present class, and
      of n present classes only classes 0 to n - 1 have anchors.
  """
  enters = negatives_of(seen, low_rank, high_rank, own_class)
  rings = _entered(seen, rings, key, enters, sizes=sizes, entering=entering)
  L_c = _contrast_of_classes(
    seen,
    rings,
    key,
    sizes=sizes,
    probability=probability,
    shape=(anchors, negatives),
    temperature=temperature,
    shifted=shifted,
  )
  return L_c, rings


def _entered(
  seen: Seen,
  rings: Rings,
  key: jax.Array,
  enters: jax.Array,
  *,
  sizes: Sequence[int],
  entering: int,
) -> Rings:
  """The memory with `entering` at most of a class's pixels, bool [P,C]; no gradient."""
  u = jax.random.uniform(named_key(key, "push"), (min(entering, *sizes, len(seen.y)),))
  return lax.stop_gradient(push(rings, seen.T, enters, u, sizes=sizes))


def _contrast_of_classes(
  seen: Seen,
  rings: Rings,
  key: jax.Array,
  *,
  sizes: Sequence[int],
  probability: float,
  shape: tuple[int, int],
  temperature: float,
  shifted: bool,
) -> jax.Array:
  """L_c; `shape` is (M, N)."""
  C = seen.p.shape[-1]
  sure = sets_of(seen.y, seen.low & (own(seen.p, seen.y) > probability), C)
  mu = lax.stop_gradient(prototypes(seen.T, seen.y, seen.low, C))
  present = sets_of(seen.y, seen.low, C).count > 0
  ring, taken = jnp.arange(C), present
  if shifted:
    ring, taken = jnp.argsort(~present, stable=True), jnp.arange(C) < present.sum()

  @jax.checkpoint
  def of_class(c: jax.Array) -> jax.Array:
    u = lambda use, *n: jax.random.uniform(jax.random.fold_in(named_key(key, use), c), n)
    anchor = drawn(sure, c, u("anchor", shape[0]))
    others = held(rings, ring[c], u("negative", *shape), sizes).astype(seen.E.dtype)
    return info_nce(seen.E[anchor], mu[c], others, temperature)

  used = taken & (sure.count > 0) & (rings["filled"][ring] > 0)
  return mean_over_present(lax.map(of_class, jnp.arange(C)), used, present)
