"""Flaw maps in numpy, pixel by pixel, in float64: written from the equations, not from ops."""

import numpy as np


def kernel(size):
  """A unit impulse in the middle of `size` places, blurred; its edges are repeated."""
  sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
  reach = int(4 * sigma + 0.5)
  gauss = [np.exp(-0.5 * (t / sigma) ** 2) for t in range(-reach, reach + 1)]
  found = np.zeros(size)
  for j in range(size):
    for t, g in zip(range(-reach, reach + 1), gauss):
      q = j + t
      while not 0 <= q < size:
        q = -1 - q if q < 0 else 2 * size - 1 - q
      found[j] += (q == (size - 1) // 2) * g / sum(gauss)
  return found


def blur(maps, size):
  """Maps [...,H,W]; a reflected edge is not repeated."""
  half, w = size // 2, kernel(size)
  pad = [(0, 0)] * (maps.ndim - 2) + [(half, half)] * 2
  x = np.pad(np.asarray(maps, np.float64), pad, mode="reflect")
  found = np.zeros(maps.shape)
  for i in range(size):
    for j in range(size):
      found += w[i] * w[j] * x[..., i : i + maps.shape[-2], j : j + maps.shape[-1]]
  return found


def odd(size):
  return size if size % 2 else size + 1


def target(p, y, side, *, mu=0.5, nu=1, ignored_flawed=False):
  """p [B,H,W,C], y [B,H,W] -> [B,H,W]."""
  onehot = np.eye(256)[y][..., : p.shape[-1]]
  e = mu * np.abs(onehot - p).sum(-1)
  if not ignored_flawed:
    e[y == 255] = 0
  e = blur(e, odd(int(side / 8)))
  for _ in range(nu):
    x = np.pad(e, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    rows, columns = e.shape[1:]
    e = np.max([x[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], 0)
    e = blur(e, odd(int(side / 4)))
  return np.stack([(one - one.min()) / (one.max() - one.min() + 1e-9) for one in e])


def handled(F, side, negative_flawless=False):
  """[...,H,W] -> [...,H,W]."""
  f = blur(np.maximum(F, 0), odd(int(side / 16)))
  found = np.zeros(f.shape)
  for at in np.ndindex(f.shape[:-2]):
    low, high = f[at].min(), f[at].max()
    if high > 0.1:
      found[at] = (f[at] - low) / (high - low + 1e-9)
    elif negative_flawless:
      found[at] = (0 - low) / (high - low + 1e-9)
  return found
