"""What is said of each pixel beside its class: confidence, probabilities, and disagreement.

Maps are made of the scores of a band, so that those of 8 bits need no more than a picture does.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.evaluation import bands
from semiseg_jax.evaluation.bands import Classify
from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.class_gate import gated

Array = Any  # of numpy or jax
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Wanted:
  """The maps to make.

  Attributes:
    confidence, doubt, disagreement, probabilities: see `Maps`.
    top: k of the most probable classes of each pixel; 0 for none.
  """

  confidence: bool = False
  doubt: bool = False
  disagreement: bool = False
  probabilities: bool = False
  top: int = 0

  def beside(self, are_probabilities: bool) -> str:
    """What scores must hold beside those of the labels, see `inference.make_scores`."""
    if self.disagreement:
      return "networks"
    has = self.confidence or self.doubt or self.probabilities or self.top
    return "probabilities" if has and not are_probabilities else ""


LABELS_ALONE = Wanted()


class Maps(NamedTuple):
  """Maps of a picture; None where they are not wanted.

  Attributes:
    labels: uint8 [H,W].
    confidence: uint8 [H,W], the rounded 255-fold of the label's probability, as stored targets
      have it; a gate takes classes away and adds nothing to the others.
    doubt: float16 [H,W], 1 - the label's probability; tells those apart that 8 bits do not.
    disagreement: uint8 [H,W], the rounded 255-fold of `divergence`; a gate does not count.
    probabilities: float16 [H,W,K]; those of classes that a gate keeps sum to 1.
    top_classes, top_probabilities: uint8 [H,W,k], the classes of the greatest probabilities, and
      the rounded 255-fold of these, falling.
  """

  labels: Array
  confidence: Array | None = None
  doubt: Array | None = None
  disagreement: Array | None = None
  probabilities: Array | None = None
  top_classes: Array | None = None
  top_probabilities: Array | None = None

  def without(self, absent: np.ndarray) -> "Maps":
    """Maps that say nothing where `absent`, bool [H,W]: IGNORE as class, 0 as all else."""
    classes = ("labels", "top_classes")
    put = lambda name, x: _put(x, absent, IGNORE if name in classes else 0)
    return Maps(**{name: put(name, x) for name, x in self._asdict().items() if x is not None})


def _put(values: np.ndarray, where: np.ndarray, value: int) -> np.ndarray:
  where = where if values.ndim == 2 else where[..., None]
  return np.where(where, values.dtype.type(value), values)


def divergence(p: jax.Array) -> jax.Array:
  """Jensen-Shannon divergence of N >= 2 networks as a share of its greatest value, [...].

    (H(mean_n p_n) - mean_n H(p_n)) / log N,   H(p) = -sum_k p_k log p_k

  0 where all say the same, 1 where each is sure of a class of its own; for N > K below 1.  It is
  the information that a pixel's label would give about which network is right (BALD).

  Sources: Lin, "Divergence measures based on the Shannon entropy", 1991; Melville et al.,
  "Active learning for probability estimation using Jensen-Shannon divergence", ECML 2005.

  Args:
    p: probabilities [...,N,K].
  """
  entropy = lambda q: -jax.scipy.special.xlogy(q, q).sum(-1)
  found = (entropy(p.mean(-2)) - entropy(p).mean(-1)) / math.log(p.shape[-2])
  return jnp.clip(found, 0, 1)


def classify(wanted: Wanted, classes: int, own: tuple[int, ...] = (0,)) -> Classify:
  """What makes Maps of a band of scores, for `windows.Segmenter`.

  Args:
    wanted: the maps.
    classes: K.
    own: of which of the networks beside the labels probabilities are, the mean of several.
  """
  return functools.partial(_classify, wanted=wanted, classes=classes, own=own)


@functools.partial(jax.jit, static_argnames=("rule", "wanted", "classes", "own"))
def _classify(
  scores: jax.Array,
  kept: jax.Array | None = None,
  rule: str = "",
  *,
  wanted: Wanted,
  classes: int,
  own: tuple[int, ...],
) -> tuple[Maps, jax.Array]:
  """Maps of scores [h,w,(1+M)K]: those of the labels, then M times probabilities.

  Where M is 0 the scores of the labels are probabilities.
  """
  labels, _ = bands.labels(scores[..., :classes], kept, rule)
  finite = jnp.isfinite(scores).all()
  if wanted == LABELS_ALONE:
    return Maps(labels), finite
  p = scores[..., classes:] if scores.shape[-1] > classes else scores
  p = p.reshape(*scores.shape[:2], -1, classes)
  p = p / jnp.maximum(p.sum(-1, keepdims=True), _TINY)  # sums over windows that overlap
  mine = p[..., np.array(own), :].mean(-2)
  seen = mine
  if kept is not None:
    seen = jnp.maximum(gated(mine, kept, "softmax_zero"), 0)
    seen = seen / jnp.maximum(seen.sum(-1, keepdims=True), _TINY)
  top = jax.lax.top_k(seen, wanted.top) if wanted.top else (None, None)
  of_label = jnp.take_along_axis(mine, labels[..., None].astype(jnp.int32), -1)[..., 0]
  return Maps(
    labels,
    confidence=_bytes(of_label) if wanted.confidence else None,
    doubt=jnp.clip(1 - of_label, 0, 1).astype(jnp.float16) if wanted.doubt else None,
    disagreement=_bytes(divergence(p)) if wanted.disagreement else None,
    probabilities=seen.astype(jnp.float16) if wanted.probabilities else None,
    top_classes=top[1].astype(jnp.uint8) if wanted.top else None,
    top_probabilities=_bytes(top[0]) if wanted.top else None,
  ), finite


def _bytes(share: jax.Array) -> jax.Array:
  return jnp.round(255 * share).astype(jnp.uint8)
