"""Pixel losses on logits [N,B,H,W,C] of N networks, in float32 (float64 when given float64).

All pools are (sum, count) pairs, divided once.  A **group** is the set of pixels that share one
mean: `group` = k contiguous images of the batch, 0 = the whole global batch.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.ramps import ramp
from semiseg_jax.ops.region_losses import dice, lovasz_softmax

# What a supervised loss may be; of several parts it is the sum.
KINDS = ("ce", "ohem", "focal", "dice", "lovasz", "ce+dice", "ce+lovasz", "focal+dice")
WEIGHTED = tuple(kind for kind in KINDS if not set(kind.split("+")) <= {"dice", "lovasz"})


def pixel_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns -log softmax(logits)[label] per pixel, 0 where the label is IGNORE.

  Args:
    logits: [...,C].
    labels: int [...], 0..C-1 or IGNORE.
  """
  classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)
  hit = labels[..., None].astype(jnp.int32) == classes.reshape((1,) * labels.ndim + (-1,))
  # A comparison with iota fuses into the reduction: no one-hot array, no scatter in the gradient.
  picked = jnp.sum(jnp.where(hit, logits, 0), axis=-1)
  return jnp.where(labels != IGNORE, jax.nn.logsumexp(logits, axis=-1) - picked, 0)


def _grouped(x: jax.Array, group: int) -> jax.Array:
  """Reshapes [N,B,H,W] to [N,G,pixels of a group]."""
  n, b = x.shape[:2]
  k = group or b
  if b % k:
    raise ValueError(f"loss_group={group} does not divide the batch of {b} images.")
  return x.reshape(n, b // k, -1)


def cross_entropy_sums(
  logits: jax.Array, labels: jax.Array, groups: int = 1
) -> tuple[jax.Array, jax.Array]:
  """Returns the summed cross entropy and the number of its pixels, [N,G] each.

  Args:
    logits: [N,B,H,W,C].
    labels: int [N,B,H,W], IGNORE left out.
    groups: G, into which the batch is cut.
  """
  group = logits.shape[1] // groups if logits.shape[1] % groups == 0 else -1
  if group < 1:
    raise ValueError(f"A batch of {logits.shape[1]} images cannot be cut into {groups} groups.")
  total = _grouped(pixel_cross_entropy(logits, labels), group).sum(-1)
  return total, _grouped(labels != IGNORE, group).sum(-1)


def cross_entropy(
  logits: jax.Array, labels: jax.Array, *, group: int = 0, keep: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Returns the cross entropy per network [N] and the number of its pixels [N].

  The mean over the valid pixels of each group, then the mean over the groups.  A group without a
  valid pixel gives 0 (the published code gives NaN).

  Args:
    logits: [N,B,H,W,C].
    labels: int [N,B,H,W], IGNORE left out.
    group: contiguous images that share a mean, 0 = all.
    keep: bool [N,B,H,W], pixels to use beside `labels != IGNORE`; None = all.
  """
  used = labels != IGNORE if keep is None else (labels != IGNORE) & keep
  pixel = jnp.where(used, pixel_cross_entropy(logits, labels), 0)
  count = _grouped(used, group).sum(-1)
  total = _grouped(pixel, group).sum(-1)
  return (total / jnp.maximum(count, 1).astype(total.dtype)).mean(-1), count.sum(-1)


def cross_entropy_over_all(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean cross entropy [N] of which ignored pixels are a part, and the others' number.

  Ignored pixels count 0 but stay in the mean, as PixelSSL has it.

  Args:
    logits: [N,B,H,W,C].
    labels: int [B,H,W].
  """
  labels = jnp.broadcast_to(labels[None], logits.shape[:-1])
  return pixel_cross_entropy(logits, labels).mean((1, 2, 3)), (labels != IGNORE).sum((1, 2, 3))


def cross_pseudo_pool(
  logits: jax.Array, pseudo: jax.Array, groups: int = 1
) -> tuple[jax.Array, jax.Array]:
  """Returns the sums and pixel counts [N-1,N,G] of CE(P_k, Y_j) over j != k, before the division.

  Args:
    logits: P, [N,B,H,W,C].
    pseudo: Y, int [N,B,H,W], IGNORE left out.
    groups: G, into which the batch is cut.
  """
  rolled = (jnp.roll(pseudo, -j, axis=0) for j in range(1, len(pseudo)))
  sums, counts = zip(*(cross_entropy_sums(logits, Y, groups) for Y in rolled))
  return jnp.stack(sums), jnp.stack(counts)


def mean_of_pools(pools: Sequence[tuple[jax.Array, jax.Array]]) -> jax.Array:
  """Returns the sum of the means of pools (sums, counts), [...,G] each.

  A mean is over the pixels of all pools in a group, then over the groups.
  """
  total, count = (sum(parts) for parts in zip(*pools))
  return (total / jnp.maximum(count, 1)).mean(-1).sum()


def weighted_cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  weights: tuple[float, ...],
  *,
  group: int = 0,
  keep: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns sum(w_y CE) / sum(w_y) over valid pixels, per network [N], and their number [N].

  As PyTorch's cross entropy with class weights; a mean per group and over the groups.

  Args:
    logits: [N,B,H,W,C].
    labels: int [B,H,W], IGNORE left out; or [N,B,H,W].
    weights: w, one per class.
    group: contiguous images that share a mean, 0 = all.
    keep: bool [N,B,H,W], pixels to use beside `labels != IGNORE`; None = all.
  """
  labels = labels if labels.ndim == 4 else jnp.broadcast_to(labels[None], logits.shape[:-1])
  valid = labels != IGNORE if keep is None else (labels != IGNORE) & keep
  w = _weight_of(labels, weights, valid, logits.dtype)
  total = _grouped(w * pixel_cross_entropy(logits, labels), group).sum(-1)
  weight = _grouped(w, group).sum(-1)
  mean = total / jnp.where(weight > 0, weight, 1)
  return mean.mean(-1), valid.sum((1, 2, 3))


def _weight_of(
  labels: jax.Array, weights: tuple[float, ...], valid: jax.Array, dtype: jnp.dtype
) -> jax.Array:
  """The weight of each pixel's class, 0 where it is not valid."""
  return jnp.where(valid, jnp.asarray(weights, dtype)[jnp.where(valid, labels, 0)], 0)


def focal(
  logits: jax.Array,
  labels: jax.Array,
  *,
  gamma: float,
  weights: tuple[float, ...] = (),
  group: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """Returns the mean of -w_y (1 - p_y)^gamma log p_y over valid pixels [N], and their number [N].

  A mean per group and over the groups.  The weights scale the loss, their sum does not divide it.

  Source: Lin et al., ICCV 2017, equation 5 with the softmax for the sigmoid; published: gamma 2.

  Args:
    logits: [N,B,H,W,C].
    labels: int [N,B,H,W], IGNORE left out.
    gamma: 0 = the cross entropy.
    weights: w (alpha there), one per class; () = 1.
    group: contiguous images that share a mean, 0 = all.
  """
  nll, valid = pixel_cross_entropy(logits, labels), labels != IGNORE
  # Where p_y is 1 to the last bit, the slope of a power below 1 would be infinite.
  missing = jnp.maximum(-jnp.expm1(-nll), jnp.finfo(nll.dtype).eps)
  pixel = missing**gamma * nll if gamma else nll
  pixel *= _weight_of(labels, weights, valid, nll.dtype) if weights else 1
  total, count = (_grouped(x, group).sum(-1) for x in (pixel, valid))
  return (total / jnp.maximum(count, 1).astype(total.dtype)).mean(-1), count.sum(-1)


def ohem_keep(
  logits: jax.Array, labels: jax.Array, *, threshold: float, min_kept: int, group: int
) -> jax.Array:
  """Online hard example mining: returns bool [N,B,H,W], the pixels that take part.

  In each group: q = the min_kept-th smallest probability of the true class (ignored pixels count
  as 1), tau = max(threshold, q), and valid pixels with a probability <= tau are kept.  With fewer
  than min_kept valid pixels all of them are kept, and with min_kept = 0 as well: nothing is mined.
  No gradient.  Source: TorchSemiSeg's ProbOhemCrossEntropy2d; published recipe: threshold 0.7,
  min_kept 50,000 for each 800x800 image.
  """
  logits = jax.lax.stop_gradient(logits)
  valid = labels != IGNORE
  probability = jnp.where(valid, jnp.exp(-pixel_cross_entropy(logits, labels)), 1)
  pool = jnp.sort(_grouped(probability, group), axis=-1)
  q = pool[..., min(pool.shape[-1], min_kept) - 1]
  tau = jnp.maximum(q, jnp.asarray(threshold, q.dtype))
  few = _grouped(valid, group).sum(-1) < min_kept
  tau = jnp.where(few, jnp.inf, tau)
  per_image = jnp.repeat(tau, labels.shape[1] // tau.shape[1], axis=1)
  return valid & (probability <= per_image[:, :, None, None])


def annealed_threshold(t: jax.Array, steps: int, classes: int) -> jax.Array:
  """Returns a(t) = 1/C + (0.9 - 1/C) (1 - exp(-5 min(t, T) / T)) of C classes, T = `steps`.

  CCT's code (its paper's equation 4 has 1 in place of 0.9): it ends just below 0.9.
  """
  return 1 / classes + (0.9 - 1 / classes) * ramp("log", t, steps)


def bootstrapped_cross_entropy(
  logits: jax.Array, labels: jax.Array, threshold: jax.Array, *, group: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Returns the cross entropy [N] of hard pixels alone, and their number [N]: CCT's ab-CE.

  Hard are valid pixels whose class has a probability below max(`threshold`, q), q the (k+1)-th
  smallest of the k pictures of a group.  Without such pixels it is 0.

  Args:
    logits: [N,B,H,W,C].
    labels: int [B,H,W], IGNORE left out.
    threshold: a(t), see `annealed_threshold`.
    group: contiguous images that share a mean and a pool, 0 = all.
  """
  labels = jnp.broadcast_to(labels[None], logits.shape[:-1])
  valid = labels != IGNORE
  nll = jax.lax.stop_gradient(pixel_cross_entropy(logits, labels))
  probability = jnp.where(valid, jnp.exp(-nll), jnp.inf)
  pool = jnp.sort(_grouped(probability, group), axis=-1)
  last = jnp.maximum(_grouped(valid, group).sum(-1) - 1, 0)
  place = jnp.minimum(group or logits.shape[1], last)[..., None]
  q = jnp.take_along_axis(pool, place, axis=-1)[..., 0]
  tau = jnp.maximum(jnp.where(jnp.isfinite(q), q, 0), threshold)
  per_image = jnp.repeat(tau, labels.shape[1] // tau.shape[1], axis=1)
  return cross_entropy(
    logits, labels, group=group, keep=valid & (probability < per_image[:, :, None, None])
  )


def supervised_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  kind: str,
  group: int,
  ohem_threshold: float,
  ohem_kept_fraction: float,
  weights: tuple[float, ...] = (),
  gamma: float = 2.0,
) -> tuple[jax.Array, jax.Array]:
  """Returns the supervised loss per network [N] and the number of pixels that took part [N].

  Args:
    logits: [N,B,H,W,C].
    labels: int [B,H,W], the same for every network.
    kind: of KINDS; 'ohem' mines within each group, see `ohem_keep`.
    group: contiguous images that share a mean and a mining pool, 0 = all.
    ohem_threshold: pixels up to this probability are always kept.
    ohem_kept_fraction: of the pixels of a group, at least these are kept.
    weights: of the classes, in cross entropy (`weighted_cross_entropy`) and focal loss; () = none.
    gamma: of the focal loss.

  Raises:
    ValueError: an unknown `kind`.
  """
  if kind not in KINDS:
    raise ValueError(f"method.supervised_loss={kind!r} is unknown: {', '.join(KINDS)}.")
  labels = jnp.broadcast_to(labels[None], logits.shape[:-1])

  def entropy(keep: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    if weights:
      return weighted_cross_entropy(logits, labels, weights, group=group, keep=keep)
    return cross_entropy(logits, labels, group=group, keep=keep)

  def mined() -> tuple[jax.Array, jax.Array]:
    pixels = (group or logits.shape[1]) * math.prod(logits.shape[2:4])
    min_kept = max(1, round(ohem_kept_fraction * pixels))
    return entropy(
      ohem_keep(logits, labels, threshold=ohem_threshold, min_kept=min_kept, group=group)
    )

  parts = {
    "ce": entropy,
    "ohem": mined,
    "focal": lambda: focal(logits, labels, gamma=gamma, weights=weights, group=group),
    "dice": lambda: dice(logits, labels, group=group),
    "lovasz": lambda: lovasz_softmax(logits, labels, group=group),
  }
  losses, pixels = zip(*(parts[part]() for part in kind.split("+")))
  return sum(losses[1:], losses[0]), pixels[0]
