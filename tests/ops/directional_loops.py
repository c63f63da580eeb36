"""The directional contrast in numpy, picture by picture and pixel by pixel, from its equations."""

import numpy as np


def pairs(geometry, grid, stride):
  """(picture, place in crop 1, place in crop 2) of the overlap, places in the mirrored maps."""
  h, w = grid
  for b, (dy, dx, vh, vw, flip, flip_2) in enumerate(np.asarray(geometry).tolist()):
    for r in range(min(h, vh // stride)):
      for c in range(min(w, vw // stride)):
        r_2, c_2 = r - dy // stride, c - dx // stride
        if 0 <= r_2 < min(h, vh // stride) and 0 <= c_2 < min(w, vw // stride):
          yield b, (r, w - 1 - c if flip else c), (r_2, w - 1 - c_2 if flip_2 else c_2)


def loss(first, second, geometry, keys, labels, *, stride, groups, temperature, threshold):
  """l_1, l_2 and the number of their pairs.

  first, second: (z [B,h,w,D], y, p).  keys, labels: all negatives.
  """
  B, *grid = first[1].shape
  of_group = [([], []) for _ in range(groups)]
  for b, at, at_2 in pairs(geometry, grid, stride):
    one, two = ([x[b][place] for x in crop] for crop, place in ((first, at), (second, at_2)))
    for k, (anchor, target) in enumerate(((one, two), (two, one))):
      if target[2] > threshold and anchor[2] < target[2]:
        nll = _nll(anchor[0], target[0], anchor[1], keys, labels, temperature)
        of_group[b * groups // B][k].append(nll)
  means = [[np.mean(x) if x else 0.0 for x in found] for found in of_group]
  counts = [sum(len(found[k]) for found in of_group) for k in (0, 1)]
  return np.mean(means, 0), counts


def _nll(z, b, y, keys, labels, temperature):
  s = z @ b / temperature
  n = [z @ k / temperature for k in keys]
  m = max(s, *n)
  others = sum(np.exp(n_j - m) for n_j, label in zip(n, labels) if label != y)
  q = np.exp(s - m) / (np.exp(s - m) + others + 1e-8)
  return -np.log(q + 1e-8)
