"""Calibration: whether a network is right as often as it says it is.

    ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)|        B_m: pixels with p in ((m-1)/M, m/M]

p is the probability that the network gives to the label that it chose, acc the share of right
labels in a bin, conf the mean p, n the labeled pixels of all pictures and M = 15.  Source: Guo et
al., ICML 2017, arXiv 1706.04599, equation 3.

p is that of the protocol, whose labels stay as they are, but for rounding: where windows are joined
by their logits p is the softmax of the mean logits of the windows over a pixel, where they are
joined by probabilities it is their mean.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.ops.class_gate import gated

BINS = 15
# Of p, for coverage and accuracy of the labels that reach them; 0 is all of them.
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclasses.dataclass(frozen=True)
class Certainty:
  """Counts by probability, which add over pictures.

  bins: float64 [3,M], labeled pixels, those labeled rightly, and the sum of p, of each bin.
  levels: int64 [T,C,C], confusion of the pixels whose p reaches threshold t and not the next.
  """

  bins: np.ndarray
  levels: np.ndarray

  def __add__(self, other: "Certainty") -> "Certainty":
    return Certainty(self.bins + other.bins, self.levels + other.levels)

  @property
  def above(self) -> np.ndarray:
    """Confusion int64 [T,C,C] of the pixels whose p is at least each of THRESHOLDS."""
    return self.levels[::-1].cumsum(0)[::-1]


def nothing(num_classes: int) -> Certainty:
  """Counts of no pixel."""
  square = (num_classes, num_classes)
  return Certainty(np.zeros((3, BINS)), np.zeros((len(THRESHOLDS), *square), np.int64))


_PIXELS = 1 << 22  # that are counted at a time


def count(
  label: np.ndarray, prediction: np.ndarray, probability: np.ndarray, num_classes: int
) -> Certainty:
  """Counts of one picture.

  Args:
    label: uint8 [H,W]; every value >= C is not counted.
    prediction: uint8 [H,W], every value < C.
    probability: float32 [H,W] of the predicted class, from 0 to 1.
    num_classes: C.
  """
  flat, total = [x.reshape(-1) for x in (label, prediction, probability)], nothing(num_classes)
  for start in range(0, label.size, _PIXELS):
    total += _count(*(x[start : start + _PIXELS] for x in flat), num_classes)
  return total


def _count(
  label: np.ndarray, prediction: np.ndarray, probability: np.ndarray, num_classes: int
) -> Certainty:
  counted = label < num_classes
  truth, found = label[counted].astype(np.int64), prediction[counted]
  p32 = probability[counted]
  p = p32.astype(np.float64)  # of which the product with M is exact
  m = np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
  sums = [np.bincount(m, weights, BINS) for weights in (None, truth == found, p)]
  # Compared as float32, as the thresholds of methods are.
  level = np.searchsorted(np.array(THRESHOLDS, np.float32), p32, side="right") - 1
  shape = (len(THRESHOLDS), num_classes, num_classes)
  index = (level * num_classes + truth) * num_classes + found
  return Certainty(np.stack(sums), np.bincount(index, minlength=np.prod(shape)).reshape(shape))


def expected_error(bins: np.ndarray) -> float:
  """ECE of `Certainty.bins`, a fraction."""
  pixels, right, p = bins
  return float(np.abs(right - p).sum() / pixels.sum())


def describe(certainty: Certainty) -> dict[str, Any]:
  """ECE, mean p, and the reliability table for a result file; fractions, null in an empty bin."""
  pixels, right, p = certainty.bins
  share = lambda x: [float(a / n) if n else None for a, n in zip(x, pixels)]
  return {
    "ece": expected_error(certainty.bins),
    "mean_probability": float(p.sum() / pixels.sum()),
    "bins": BINS,
    "upper_ends": [(m + 1) / BINS for m in range(BINS)],
    "pixels": [int(n) for n in pixels],
    "accuracy": share(right),
    "probability": share(p),
  }


def format_lines(certainty: Certainty) -> list[str]:
  """ECE and the reliability table for people."""
  found = describe(certainty)
  lines = [
    f"  ECE {100 * found['ece']:.2f}  (mean probability {100 * found['mean_probability']:.2f}; "
    f"{BINS} bins)",
    "  probability up to  % of pixels  accuracy  mean probability",
  ]
  total = sum(found["pixels"])
  rows = zip(*(found[k] for k in ("upper_ends", "pixels", "accuracy", "probability")))
  for end, pixels, accuracy, p in rows:
    if pixels:
      shares = f"{100 * pixels / total:11.2f}  {100 * accuracy:8.2f}  {100 * p:16.2f}"
      lines.append(f"  {end:17.3f}  {shares}")
  return lines


def segmenter(
  how: Protocol,
  forward: Callable[[np.ndarray, np.ndarray], jax.Array],
  num_classes: int,
  **options: Any,
) -> Segmenter:
  """A segmenter by the protocol that gives (labels uint8 [H,W], p float32 [H,W]) of a picture.

  The labels are those of `how.segmenter`, but for rounding.

  Args:
    how: the protocol.
    forward: of `inference.make_forward` with the `views` of the protocol, scores [B,h,w,K].
    num_classes: K, at most 254.
    **options: further ones of `how.segmenter`.
  """
  classify = make_classify(how.adds == "logits")
  return how.segmenter(with_ones(forward), num_classes + 1, classify=classify, **options)


def with_ones(
  forward: Callable[[np.ndarray, np.ndarray], jax.Array],
) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
  """Returns `forward` with scores [B,h,w,K+1]: the last, 1, is summed to the number of windows."""
  return lambda images, valid: _append_one(forward(images, valid))


@jax.jit
def _append_one(scores: jax.Array) -> jax.Array:
  return jnp.concatenate([scores, jnp.ones_like(scores[..., :1])], -1)


def make_classify(logits: bool) -> Callable[..., tuple[Any, jax.Array]]:
  """A `bands.Classify` of scores [h,w,K+1] as `with_ones` has them.

  It gives labels uint8 [h,w], which are those without the last score, and p float32 [h,w] of the
  labels; a gate chooses labels and leaves p as it is.

  Args:
    logits: whether scores are those; otherwise probabilities.
  """
  return _of_logits if logits else _of_probabilities


def _classify(
  scores: jax.Array, kept: jax.Array | None, rule: str, logits: bool
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  sums, windows = scores[..., :-1], jnp.maximum(scores[..., -1:], 1)
  chosen = sums if kept is None else gated(sums, kept, rule)
  label = jnp.argmax(chosen, -1)
  mean = sums / windows
  p = jax.nn.softmax(mean) if logits else mean
  p = jnp.take_along_axis(p, label[..., None], -1)[..., 0]
  return (label.astype(jnp.uint8), jnp.clip(p, 0, 1)), jnp.isfinite(scores).all()


@functools.partial(jax.jit, static_argnames="rule")
def _of_logits(scores: jax.Array, kept: jax.Array | None = None, rule: str = "") -> Any:
  return _classify(scores, kept, rule, logits=True)


@functools.partial(jax.jit, static_argnames="rule")
def _of_probabilities(scores: jax.Array, kept: jax.Array | None = None, rule: str = "") -> Any:
  return _classify(scores, kept, rule, logits=False)
