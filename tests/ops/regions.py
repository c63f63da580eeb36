"""Regions of masks by flood fill."""

import collections

import numpy as np


def flooded(M):
  """8-connected regions of a mask [h,w] as sets of cells, one after the other."""
  left, found = {tuple(cell) for cell in np.argwhere(M).tolist()}, []
  while left:
    queue, region = collections.deque([left.pop()]), set()
    while queue:
      y, x = queue.popleft()
      region.add((y, x))
      near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
      left -= near
      queue.extend(near)
    found.append(region)
  return found
