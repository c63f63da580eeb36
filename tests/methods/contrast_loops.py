"""Contrasts in numpy, class by class and pixel by pixel, from the papers' equations.

Draws come from uniform numbers that are given by name: u(name, class) -> array.
"""

import numpy as np


def cosine(a, b):
  return a @ b / (max(np.linalg.norm(a), 1e-8) * max(np.linalg.norm(b), 1e-8))


def info_nce(anchors, positive, negatives, tau):
  found = []
  for a, keys in zip(anchors, negatives):
    s = np.exp([cosine(a, k) / tau for k in (positive, *keys)])
    found.append(-np.log(s[0] / s.sum()))
  return np.mean(found)


def pick(pixels, u):
  return pixels[(np.float32(u) * np.float32(len(pixels))).astype(int)]


def mean_over_classes(losses, present):
  return sum(losses) / len(present) if len(present) > 1 else 0.0


class Ring:
  """The places of one class; what does not fit overwrites the oldest."""

  def __init__(self, size, width):
    self.places, self.at, self.filled = np.zeros((size, width)), 0, 0

  def push(self, entries, most, u):
    n = len(entries)
    if n > most:  # one of each part
      entries = [entries[int((j + u[j]) * n / most)] for j in range(most)]
    for e in entries:
      self.places[self.at] = e
      self.at = (self.at + 1) % len(self.places)
      self.filled = min(self.filled + 1, len(self.places))


def rank(p, c):
  """Of class c among the probabilities of a pixel, 0 = most likely."""
  return int(np.argwhere(np.argsort(-p, kind="stable") == c)[0, 0])


def u2pl(seen, rings, u, o, own_class=False, shifted=False):
  """Loss of one network; the rings take its negatives.  `o`: the options of the method."""
  E, T, p, y, low, high, labeled = seen
  C = p.shape[1]
  for c in range(C):
    entries = []
    for i in range(len(y)):
      if labeled[i]:
        negative = y[i] != 255 and y[i] != c and rank(p[i], c) < o.low_rank
      else:
        negative = o.low_rank <= rank(p[i], c) < o.high_rank
      if high[i] and negative and (y[i] == c or not own_class):
        entries.append(T[i])
    rings[c].push(entries, o.entering, u("push", None))
  every = [np.flatnonzero((y == c) & low) for c in range(C)]
  present = [c for c in range(C) if len(every[c])]
  losses = []
  for i, c in enumerate(present):
    own, ring = (i, rings[c]) if shifted else (c, rings[c])
    sure = np.array([j for j in every[own] if p[j, own] > o.probability], int)
    if not len(sure) or not ring.filled:
      continue
    anchors = E[pick(sure, u("anchor", own))]
    keys = ring.places[pick(np.arange(ring.filled), u("negative", own))]
    losses.append(info_nce(anchors, T[every[own]].mean(0), keys, o.temperature))
  return mean_over_classes(losses, present)


def reco(seen, u, o):
  """Loss of one network: seen = E, y, valid, p."""
  E, y, valid, p = seen
  C = p.shape[1]
  every = [np.flatnonzero((y == c) & valid) for c in range(C)]
  present = [c for c in range(C) if len(every[c])]
  mu = {c: E[every[c]].mean(0) for c in present}
  losses = []
  for c in present:
    hard = np.array([i for i in every[c] if p[i, c] < o.strong], int)
    if not len(hard):
      continue
    others = [d for d in present if d != c]
    if not others:
      continue
    share = np.exp([cosine(mu[c], mu[d]) / o.temperature for d in others])
    reached = np.cumsum(share / share.sum())
    which, within = u("class", c), u("negative", c)
    keys = np.empty((*which.shape, E.shape[1]))
    for at in np.ndindex(which.shape):
      d = others[min(int((which[at] >= reached).sum()), len(others) - 1)]
      keys[at] = E[pick(every[d], within[at])]
    losses.append(info_nce(E[pick(hard, u("query", c))], mu[c], keys, o.temperature))
  return mean_over_classes(losses, present)


def anchors(y, right, u, *, classes, samples, views):
  """(pixels, classes) of a pool of pictures [k,P]: the published sampling of pixel contrast."""
  pairs = [(b, c) for b in range(len(y)) for c in range(classes) if (y[b] == c).sum() > views]
  V, found = min(samples // max(len(pairs), 1), views), []
  for b, c in pairs:
    order = np.argsort(u[b])
    hard, easy = ([p for p in order if y[b][p] == c and right[b][p] == r] for r in (False, True))
    if len(hard) >= V / 2 and len(easy) >= V / 2:
      hard, easy = hard[: V // 2], easy[: V - V // 2]
    elif len(hard) >= V / 2:
      hard = hard[: V - len(easy)]
    else:
      easy = easy[: V - len(hard)]
    found += [(b * y.shape[1] + p, c) for p in (*hard, *easy)]
  return [np.array(x) for x in zip(*found)]


def pixel_contrast(x, y, bank, labels, *, own, tau):
  """L of anchors x against a bank; `own`: anchor r is entry r as well."""
  losses = []
  for r in range(len(x)):
    s = bank @ x[r] / tau
    Z = np.exp(s[labels != y[r]]).sum()
    positive = (labels == y[r]) & (np.arange(len(bank)) != (r if own else -1))
    if positive.any():
      losses.append(-tau / 0.07 * (s - np.log(np.exp(s) + Z))[positive].mean())
  return np.mean(losses)


def remembered(queues, E, y, u, *, pixels):
  """The queues of one network after pictures E [B,P,D], labels y [B,P], one after the other."""
  region, pixel, region_at, pixel_at = (
    np.array(queues[name]) for name in ("region", "pixel", "region_at", "pixel_at")
  )
  m = region.shape[1]
  for e, labels, order in zip(E, y, u):
    for c in range(len(region)):
      own = np.nonzero(labels == c)[0]
      if not len(own):
        continue
      mean = e[own].mean(0)
      region[c, region_at[c]] = mean / np.linalg.norm(mean)
      region_at[c] = (region_at[c] + 1) % m
      for p in own[np.argsort(order[own])][:pixels]:
        pixel[c, pixel_at[c]] = e[p]
        pixel_at[c] = (pixel_at[c] + 1) % m
  return {"region": region, "pixel": pixel, "region_at": region_at, "pixel_at": pixel_at}
