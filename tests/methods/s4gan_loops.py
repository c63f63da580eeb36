"""s4GAN's two losses in float64 numpy from the equations, one network at a time."""

import numpy as np

from tests.models.numpy_reference import conv2d
from tests.small_network import copy, forward, normalized, upsampled


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def cross_entropy(P, y):
  used = y != 255
  p = np.take_along_axis(softmax(P), np.where(used, y, 0)[..., None], -1)[..., 0]
  return -np.log(p[used]).mean() if used.any() else 0.0


def discriminator(params, maps, keep):
  """Scores [B] and features [B,K]; `keep`: masks [B,C] after each layer but the last."""
  x, layers = maps, sorted(name for name in params if name.startswith("conv"))
  for name, mask in zip(layers, [*keep, None]):
    x = conv2d(x, params[name]["kernel"].transpose(3, 2, 0, 1), stride=2, padding=1)
    x = x + params[name]["bias"]
    x = np.where(x < 0, 0.2 * x, x)
    if mask is not None:
      x = 2 * x * mask[:, None, None]
  f = x.mean((1, 2))
  z = f @ params["fc"]["kernel"][:, 0] + params["fc"]["bias"][0]
  return 1 / (1 + np.exp(-z)), f


class Twin:
  """Network k and its discriminator on a batch.

  Attributes:
    params: by stack; they may be moved between two calls.
    L_ce, L_fm, L_st, L_D, scores, maps, stats: of the last losses; `scores` and `maps` are what the
      discriminator said of the unlabeled pictures and saw of both streams.
  """

  def __init__(self, c, params, stats, b, k):
    self.c, self.o, self.b = c, c.method.s4gan, b
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.first = {name: copy(tree, k) for name, tree in stats.items()}
    self.size = b["labeled"]["label"].shape[1:]
    self.x = {name: normalized(b[name]) for name in b}

  def predictions(self):
    """Logits of labeled pictures, then of unlabeled ones; the statistics move in this order."""
    self.stats, found = dict(self.first), {}
    for name in ("labeled", "unlabeled"):
      logits, self.stats["networks"] = forward(
        self.params["networks"], self.stats["networks"], self.x[name], "train"
      )
      found[name] = upsampled(logits, self.size)
    return found

  def picture(self, name):
    x = self.x[name]
    low, extent = x.min(), x.max() - x.min()
    if name == "real" and "labeled_extent" in self.c.method.compat:
      extent = self.x["labeled"].max() - self.x["labeled"].min()
    if self.o.picture_range == "data":
      ends = (np.array([[0.0], [1.0]]) - self.c.data.mean) / self.c.data.std
      low, extent = ends.min(), ends.max() - ends.min()
    return (x - low) / extent

  def judge(self, name, maps, turn):
    """The discriminator's pass number `turn` on a stream."""
    seen = np.concatenate([maps, self.picture(name)], -1)
    keep = [self.b[name][f"keep{i}"][:, turn] for i in range(1, len(self.o.widths))]
    return discriminator(self.params["discriminator"]["module"], seen, keep)

  def segmentation_loss(self):
    P, y = self.predictions(), self.b["real"]["label"]
    onehot = (y[..., None] == np.arange(P["labeled"].shape[-1])).astype(float)
    self.maps = {"unlabeled": softmax(P["unlabeled"]), "real": onehot}
    self.scores, fake = self.judge("unlabeled", self.maps["unlabeled"], 0)
    _, real = self.judge("real", onehot, 0)
    self.L_ce = cross_entropy(P["labeled"], self.b["labeled"]["label"])
    self.L_fm = np.abs(real.mean(0) - fake.mean(0)).mean()
    Y = P["unlabeled"].argmax(-1)
    for row, (y0, x0, y1, x1) in enumerate(self.b["unlabeled"]["valid"]):
      inside = np.zeros(self.size, bool)
      inside[y0:y1, x0:x1] = True
      if "unlabeled_padding" not in self.c.method.compat:
        Y[row][~inside] = 255
      if not self.scores[row] > self.o.threshold:
        Y[row] = 255
    self.L_st = cross_entropy(P["unlabeled"], Y)
    return self.L_ce + self.o.weight_matching * self.L_fm + self.o.weight_self_training * self.L_st

  def discriminator_loss(self):
    """After `segmentation_loss`, whose maps are constants here."""
    fake, _ = self.judge("unlabeled", self.maps["unlabeled"], 1)
    real, _ = self.judge("real", self.maps["real"], 1)
    self.L_D = -np.log(1 - fake).mean(), -np.log(real).mean()
    return sum(self.L_D) / 2
