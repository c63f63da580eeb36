"""Labels that a network contradicts with confidence.

As confident learning has it (Northcutt, Jiang & Chuang, JAIR 2021, arXiv 1911.00068), a pixel being
an example:

    t_j = mean of p_j over the pixels labeled j                                       (equation 2)
    a pixel labeled i is suspicious, and of class j instead, where j = argmax_l p_l, p_j >= t_j and
    j != i

A threshold of its own per class keeps a class that a network always says from being the suggestion
everywhere.  Equation 1 takes the argmax over the l with p_l >= t_l alone; that would suggest a
class that is not learned yet, whose t is next to 0, wherever the network is unsure of all others.

Suspicious pixels of one pair (label, suggestion) that touch are a region.  Annotators and networks
differ by a few pixels along every border, so a region in which no disc of a radius of `BORDER` of
the shorter side fits is left out.  With F_i(p) the share of the pixels labeled i whose own p_i is
at most p, the score of a region is its surprise per pixel of the picture,

    score = 1 / (H W) sum over the region of -log2 F_i(p_i)   [bits],

so what counts is how unusual the disbelief is for pixels of that label, and how large the region
is.  That of a picture is the sum over its regions.

The limits: the networks learned from these very labels.  A mistake that they learned by heart is
not contradicted, and one that is made throughout is the class to them; what they have not learned
yet looks like a mistake.  An earlier checkpoint knows fewer mistakes by heart; networks that
learned from other labels know none.  Thin objects hold no disc.  (Measured: ten objects of about
4 % of a picture got another class, in lists that were not trained on.  By networks that agree with
79 % of CamVid's labels 5 of them are among the first 6 of 101 pictures, by others that agree with
68 % of the toy city's labels 1 is among the first 10 of 96: the rest are mistakes of the networks.)
"""

import dataclasses

import cv2
import numpy as np

from semiseg_jax.labels import IGNORE

BORDER = 0.02  # of the shorter side
_BINS = 1024  # of p, from 0 to 1


@dataclasses.dataclass(frozen=True)
class Region:
  """Touching pixels whose label is contradicted.

  Attributes:
    label, suggested: classes, as they are labeled and as the network has them.
    box: x, y, width, height in pixels.
    pixels: their number.
    p_label, p_suggested: mean probabilities of both classes.
    percentile: mean of 100 F_i(p_i).
    score: in bits per pixel of the picture.
  """

  label: int
  suggested: int
  box: tuple[int, int, int, int]
  pixels: int
  p_label: float
  p_suggested: float
  percentile: float
  score: float


class Belief:
  """What a network thinks of the labels of each class, over all labeled pictures."""

  def __init__(self, classes: int):
    self._sums, self._agreeing = np.zeros(classes), 0
    self._counts = np.zeros((classes, _BINS), np.int64)

  def add(self, label: np.ndarray, p: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Counts a picture: label uint8 [H,W], probabilities [H,W,K], pixels with data bool [H,W]."""
    counted = _counted(label, valid)
    own, of_class = _own(label, p)[counted], label[counted].astype(np.int64)
    self._agreeing += int((p.argmax(-1) == label)[counted].sum())
    classes = len(self._sums)
    self._sums += np.bincount(of_class, own, classes)
    places = of_class * _BINS + _bins(own)
    self._counts += np.bincount(places, minlength=classes * _BINS).reshape(classes, _BINS)

  @property
  def agreement(self) -> float:
    """The share of labeled pixels that the network labels alike."""
    return self._agreeing / max(int(self._counts.sum()), 1)

  @property
  def thresholds(self) -> np.ndarray:
    """t [K]; infinite for classes without a pixel."""
    pixels = self._counts.sum(1)
    return np.where(pixels > 0, self._sums / np.maximum(pixels, 1), np.inf)

  def shares(self) -> np.ndarray:
    """F [K,bins]: the share of a class's pixels whose own probability is in that bin or below."""
    pixels = np.maximum(self._counts.sum(1, keepdims=True), 1)
    return np.maximum(self._counts.cumsum(1), 1) / pixels


class Judge:
  """Finds the suspicious regions of pictures.

  Attributes:
    agreement: see Belief.
  """

  def __init__(self, belief: Belief):
    self.agreement = belief.agreement
    self._t, self._shares = belief.thresholds, belief.shares()

  def suggested(
    self, label: np.ndarray, p: np.ndarray, valid: np.ndarray | None = None
  ) -> np.ndarray:
    """Returns the class that a suspicious pixel has instead, IGNORE elsewhere: uint8 [H,W].

    Args:
      label: uint8 [H,W].
      p: probabilities [H,W,K].
      valid: bool [H,W], pixels with data; None: all.
    """
    found = p.argmax(-1).astype(np.uint8)
    confident = p.max(-1) >= self._t[found]
    suspicious = confident & (found != label) & _counted(label, valid)
    return np.where(suspicious, found, np.uint8(IGNORE))

  def regions(
    self, label: np.ndarray, p: np.ndarray, valid: np.ndarray | None = None
  ) -> list[Region]:
    """Returns the regions of a picture, the highest score first; arguments as `suggested`."""
    suggested = self.suggested(label, p, valid)
    suspicious = suggested != IGNORE
    own = _own(label, p)
    share = self._shares[np.where(label < p.shape[-1], label, 0), _bins(own)]
    radius = max(1, round(BORDER * min(label.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    found = []
    for pair in np.unique(label[suspicious].astype(np.int64) * 256 + suggested[suspicious]):
      i, j = divmod(int(pair), 256)
      mask = ((label == i) & (suggested == j)).astype(np.uint8)
      _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
      for part in np.unique(parts[cv2.erode(mask, disc) > 0]):
        found.append(_region(i, j, parts, part, stats[part], own, p[..., j], share))
    return sorted(found, key=lambda region: (-region.score, region.box))


def _region(
  i: int,
  j: int,
  parts: np.ndarray,
  part: int,
  stats: np.ndarray,
  own: np.ndarray,
  p: np.ndarray,
  share: np.ndarray,
) -> Region:
  x, y, width, height, pixels = map(int, stats)  # in the order of OpenCV
  box = slice(y, y + height), slice(x, x + width)
  inside = parts[box] == part
  mean = lambda values: float(values[box][inside].mean(dtype=np.float64))
  return Region(
    label=i,
    suggested=j,
    box=(x, y, width, height),
    pixels=pixels,
    p_label=mean(own),
    p_suggested=mean(p),
    percentile=100 * mean(share),
    score=-float(np.log2(share[box][inside]).sum()) / parts.size,
  )


def _counted(label: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
  counted = label != IGNORE
  return counted if valid is None else counted & valid


def _own(label: np.ndarray, p: np.ndarray) -> np.ndarray:
  """The probability of the label, [H,W]; that of class 0 where it is ignored."""
  of = np.where(label < p.shape[-1], label, 0)[..., None]
  return np.take_along_axis(p, of.astype(np.int64), -1)[..., 0]


def _bins(p: np.ndarray) -> np.ndarray:
  return np.clip((p * _BINS).astype(np.int64), 0, _BINS - 1)
