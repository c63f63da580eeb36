"""PseudoSeg in numpy, picture by picture and pixel by pixel, in float64: from the equations."""

import numpy as np


def image_labels(y, classes, background):
  """Labels [B,H,W] -> 1 where a class is in the picture, [B,K]; class 0 is none with background."""
  first = int(background)
  found = np.zeros((len(y), classes - first))
  for b, c in np.ndindex(found.shape):
    found[b, c] = (y[b] == c + first).any()
  return found


def class_logits(A, W, bias):
  """A linear classifier [C,K] of the mean of A [B,h,w,C]: [B,K]."""
  return A.mean((1, 2)) @ W + bias


def grad_cam(A, W):
  """max(0, sum_k w_ck A_k) [B,h,w,K], w_ck the spatial mean of d logit_c / d A_k."""
  pictures, h, w, channels = A.shape
  found = np.zeros((pictures, h, w, W.shape[1]))
  for b, i, j, c in np.ndindex(found.shape):
    total = 0.0
    for k in range(channels):
      gradient = np.full((h, w), W[k, c] / (h * w))
      total += gradient.mean() * A[b, i, j, k]
    found[b, i, j, c] = max(total, 0.0)
  return found


def seed(M, y):
  """Each map of a class that is in the picture, divided by its maximum."""
  found = np.zeros_like(M)
  for b, c in np.ndindex(y.shape):
    map_ = y[b, c] * M[b, :, :, c]
    if map_.max() > 0:
      found[b, :, :, c] = map_ / max(map_.max(), 1e-5)
  return found


def attended(F, W_key, W_query, S, v):
  """R = A S + S [B,h,w,K]; padding is not looked at, and looks at everything alike."""
  pictures, h, w, _ = F.shape
  found, places = np.zeros_like(S), list(np.ndindex(h, w))
  for b in range(pictures):
    keys = {at: F[b][at] @ W_key for at in places}
    for q in places:
      weights = {}
      for at in places:
        score = (F[b][q] @ W_query) @ keys[at] / np.sqrt(W_key.shape[1])
        weights[at] = np.exp(score) * v[b][at] if v[b][q] else 1.0
      total = sum(weights.values())
      mean = sum(weights[at] / total * S[b][at] for at in places)
      found[b][q] = mean + S[b][q]
  return found


def with_background(R):
  """What is left of 2 comes first."""
  return np.concatenate([2 - R.max(-1, keepdims=True), R], -1)


def normalized(x, bias, mean, var, epsilon=1e-3):
  """Batch statistics without a scale; also the running ones after it."""
  pixels = x.reshape(-1, x.shape[-1])
  m, s = pixels.mean(0), pixels.var(0)
  moved = {"mean": 0.9 * mean + 0.1 * m, "var": 0.9 * var + 0.1 * pixels.var(0, ddof=1)}
  return (x - m) / np.sqrt(s + epsilon) + bias, moved


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def fused(d, a, gamma, T):
  """The target of one group of pictures [B,h,w,C]."""
  square = sum((x**2).sum() for x in (d, a)) / (d.size + a.size)
  d, a = (x / np.sqrt(square + 1e-8) for x in (d, a))
  p = gamma * softmax(d) + (1 - gamma) * softmax(a)
  p = p ** (1 / T)
  return p / p.sum(-1, keepdims=True)


def soft_cross_entropy(P, target, v):
  """The sum over pixels with v, and their number, of one group."""
  ce = -(target * np.log(softmax(P))).sum(-1)
  return (ce * v).sum(), v.sum()


def known(y, present, inside=None):
  """Which image labels are taught, bool [B,K]: none without a labeled pixel.

  With `inside` [B,H,W] an ignored pixel in it could be of any class, so no class is absent.
  """
  found = np.zeros(present.shape, bool)
  for b, c in np.ndindex(found.shape):
    if inside is None or not (y[b][inside[b]] == 255).any():
      found[b, c] = (y[b] != 255).any()
    else:
      found[b, c] = present[b, c] == 1
  return found


def classification(z, y, known):
  """The mean of the binary cross entropies of logits z and known labels y [B,K] of a group."""
  terms = []
  for b, c in np.argwhere(known):
    q = 1 / (1 + np.exp(-z[b, c]))
    terms.append(-np.log(q if y[b, c] else 1 - q))
  return np.mean(terms) if terms else 0.0


def hole(u, size, side):
  """CutOut: bool [B,H,W] of centers u [B,2], uniform in [0,1)."""
  found = np.zeros((len(u), *size), bool)
  for b, (y, x) in enumerate(u):
    y, x, half = int(y * size[0]), int(x * size[1]), side // 2
    found[b, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
  return found


def nearest(x, size):
  """[B,H,W] at [B,h,w]."""
  found = np.zeros((len(x), *size), x.dtype)
  for b, i, j in np.ndindex(found.shape):
    found[b, i, j] = x[b, i * x.shape[1] // size[0], j * x.shape[2] // size[1]]
  return found
