"""Weights of classes from how often they occur; numpy, once per run.

`pixels` int [n,C] counts the labeled pixels of each class in each of n pictures, N_c are its sums
over the pictures, N = sum N_c.  A class that no picture shows has the weight 0: no pixel asks for
it.
"""

from collections.abc import Callable

import numpy as np


def inverse(pixels: np.ndarray) -> np.ndarray:
  """Returns w_c = N / (K N_c), K classes present: each then weighs the same in all.

  Source: King, Zeng, Political Analysis 2001; 'balanced' of scikit-learn.
  """
  counts = pixels.sum(0)
  return _where_present(counts, counts.sum() / np.maximum((counts > 0).sum() * counts, 1))


def median_frequency(pixels: np.ndarray) -> np.ndarray:
  """Returns w_c = median(f) / f_c, f_c = N_c / labeled pixels of the pictures that show c.

  Source: Eigen, Fergus, ICCV 2015, section 6.3.2; the median is that of the classes present.
  """
  counts = pixels.sum(0)
  around = (pixels.sum(1, keepdims=True) * (pixels > 0)).sum(0)
  frequency = counts / np.maximum(around, 1)
  present = frequency[counts > 0]
  median = np.median(present) if present.size else 0.0
  return _where_present(counts, median / np.where(counts > 0, frequency, 1))


def enet(pixels: np.ndarray) -> np.ndarray:
  """Returns w_c = 1 / ln(1.02 + N_c / N), between 1.4 and 50.5.

  Source: Paszke et al., ENet, 2016, section 5.2.
  """
  counts = pixels.sum(0)
  return _where_present(counts, 1 / np.log(1.02 + counts / max(counts.sum(), 1)))


def effective_number(pixels: np.ndarray, beta: float) -> np.ndarray:
  """Returns w_c ~ (1 - beta) / (1 - beta^N_c) with the mean 1 over the classes present.

  Between no weights, beta = 0, and the inverse of the frequency, beta -> 1: pixels beyond
  1 / (1 - beta) are taken to show nothing new.

  Source: Cui et al., CVPR 2019, equation 7; its N_c are pictures, and pixels here.
  """
  counts = pixels.sum(0)
  weights = _where_present(counts, (1 - beta) / np.where(counts > 0, 1 - beta**counts, 1))
  return weights * (counts > 0).sum() / max(weights.sum(), np.finfo(float).tiny)


def _where_present(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
  return np.where(counts > 0, weights, 0.0)


RULES: dict[str, Callable[..., np.ndarray]] = {
  f.__name__: f for f in (inverse, median_frequency, enet, effective_number)
}


def weights(rule: str, pixels: np.ndarray, beta: float) -> tuple[float, ...]:
  """Returns the weights of a rule of RULES; `beta` is that of 'effective_number'."""
  options = {"beta": beta} if rule == "effective_number" else {}
  return tuple(RULES[rule](np.asarray(pixels, np.float64), **options).tolist())
