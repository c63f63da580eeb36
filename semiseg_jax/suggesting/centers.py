"""K-center greedy: pictures that lie far from all that are labeled, and from each other.

Source: Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach
(ICLR 2018, arXiv 1708.00489), algorithm 1: the next center is the point farthest from its nearest
center, 2-OPT for the radius of the cover.
"""

import numpy as np

SAME = 2e-3  # a smaller distance is that of a copy: float32 has no finer ones between unit vectors
_BLOCK = 4096  # rows whose distances to all centers are there at once


def unit(features: np.ndarray) -> np.ndarray:
  """Returns features [P,D] of length 1, float32; those of length 0 stay."""
  length = np.linalg.norm(features, axis=1, keepdims=True)
  return (features / np.maximum(length, 1e-12)).astype(np.float32)


def nearest(features: np.ndarray, centers: np.ndarray) -> np.ndarray:
  """Returns the distance of each feature [P,D] to its nearest center [L,D], float32 [P].

  Both of length 1, so that a distance is sqrt(2 - 2 cosine), from 0 to 2; infinite where L is 0.
  """
  found = np.full(len(features), np.inf, np.float32)
  if not len(centers):
    return found
  for start in range(0, len(features), _BLOCK):
    part = slice(start, start + _BLOCK)
    for first in range(0, len(centers), _BLOCK):
      cosine = (features[part] @ centers[first : first + _BLOCK].T).max(1)
      np.minimum(found[part], _distance(cosine), out=found[part])
  return found


def _distance(cosine: np.ndarray) -> np.ndarray:
  return np.sqrt(np.maximum(2 - 2 * cosine, 0))


def k_center(
  features: np.ndarray, distances: np.ndarray, count: int
) -> tuple[list[int], list[float]]:
  """Chooses `count` rows, each the farthest from the centers and from those chosen before it.

  Of equally distant ones the first, so with no center yet the first of all.  Fewer are chosen when
  only copies of centers are left (distance below `SAME`).  Time O(P count D), memory O(P).

  Args:
    features: [P,D] of length 1.
    distances: [P], of each to its nearest center; infinite where there is none.
    count: k.

  Returns:
    Rows in the order of their choice, and the distance of each when it was chosen.
  """
  left = np.array(distances, np.float32)
  rows: list[int] = []
  apart: list[float] = []
  while len(rows) < min(count, len(features)):
    row = int(left.argmax())
    if left[row] < SAME:
      break
    rows.append(row)
    apart.append(float(left[row]))
    np.minimum(left, _distance(features @ features[row]), out=left)
    left[row] = -1  # whatever rounding leaves
  return rows, apart
