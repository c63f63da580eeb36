"""The rules by which labeled pictures are chosen; each gives an order, of which lists are heads.

So the lists of several sizes that a rule gives are nested: each is within the larger ones.
"""

import sys

import numpy as np

from semiseg_jax.progress import track


def every(count: int, ratio: int) -> np.ndarray:
  """Positions 0, r, 2r, ... of [0, count): the published lists of CPS, over the sorted ids of VOC
  and over the order of its train.txt for Cityscapes.
  """
  return np.arange(0, count, ratio)


def shuffled(count: int, seed: int) -> np.ndarray:
  """A permutation of [0, count), the same for a seed wherever it is drawn."""
  return np.random.default_rng(seed).permutation(count)


def balanced(pixels: np.ndarray, size: int) -> np.ndarray:
  """The first `size` positions of an order whose heads have the class shares of the whole.

  First, until every class is covered: the rarest class (in pictures) that no chosen picture shows,
  and of the pictures that show it the best one. Then always the best one: that which brings the
  sum over the chosen n pictures nearest to n times the mean over all, where a picture stands for,
  per class, whether it shows the class and its share of the pixels (kernel herding, Welling,
  "Herding dynamical weights to learn", ICML 2009). Distances per class are squared and divided by
  the mean, so that rare classes count. No randomness; of equal pictures the first is taken.

  Args:
    pixels: [N, K + 1] pixel counts, the last of ignored pixels.
    size: at most N.
  """
  shown = pixels[:, :-1] > 0
  shares = pixels[:, :-1] / np.maximum(pixels[:, :-1].sum(1, keepdims=True), 1)
  features = np.concatenate([shown, shares], axis=1).astype(np.float64)
  mean = features.mean(0)
  weight = np.divide(1, mean, out=np.zeros_like(mean), where=mean > 0)
  own, missing = (features**2) @ weight, shown.any(0)
  rarity, free = shown.sum(0), np.ones(len(pixels), bool)
  total, order = np.zeros_like(mean), []
  numbers = track(range(1, size + 1), total=size, title="balancing", delay=2, stream=sys.stderr)
  for number in numbers:
    # |total + x - number * mean|^2 without the part that is the same for all.
    cost = own + 2 * features @ ((total - number * mean) * weight)
    candidates = free
    if missing.any():
      wanted = min(np.flatnonzero(missing), key=lambda c: rarity[c])
      candidates = free & shown[:, wanted]
    # Rounded, so that another machine's last bit does not decide between equal pictures.
    best = int(np.argmin(np.where(candidates, cost.round(9), np.inf)))
    order.append(best)
    free[best] = False
    missing &= ~shown[best]
    total += features[best]
  return np.array(order, np.intp)
