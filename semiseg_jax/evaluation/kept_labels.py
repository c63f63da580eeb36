"""Which pseudo labels are kept: those of a confidence, or the surest share of each class.

    threshold     of all classes, or one of each: c(x) >= t_k where the label of x is class k
    keep_share    CBST: t_k is the confidence that the share p of the pixels of label k reach, over
                  all pictures

Source of the second: Zou et al., "Unsupervised domain adaptation for semantic segmentation via
class-balanced self-training", ECCV 2018, algorithm 2.  Pixels are ranked by 1 - c in half
precision, which is fine where c is near 1; those of equal rank stay together, so that the share is
at least p.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from semiseg_jax import files
from semiseg_jax.data.targets import CONFIDENCE, LABEL
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE

K = TypeVar("K")
Values = Mapping[str, np.ndarray]  # label and confidence uint8 [H,W], and others
DOUBT = "doubt"  # 1 - confidence, float16 [H,W]; of the rule by shares only
_LEVELS = 0x3C01  # float16 from 0 to 1: their bits are ordered as they are


@dataclasses.dataclass(frozen=True)
class Rule:
  """Which labels are kept.

  Attributes:
    thresholds: [K] from 0 to 1; () keeps all.
    share: p from above 0 to 1, 0 for none; with it there are no thresholds.
  """

  thresholds: tuple[float, ...] = ()
  share: float = 0.0

  def as_dict(self) -> dict[str, Any]:
    """For the origin of labels; empty where all are kept."""
    if self.share:
      return {"keep_share": self.share}
    return {"threshold": list(self.thresholds)} if any(self.thresholds) else {}


ALL = Rule()


def rule(
  threshold: Sequence[str | float], keep_share: float | None, classes: Sequence[str]
) -> Rule:
  """Returns the rule of what a user gives.

  Args:
    threshold: numbers for all classes, 'NAME=NUMBER' for one; the last counts.
    keep_share: p, or None.
    classes: K names.

  Raises:
    ConfigError: both, no number of the range, or no such class.
  """
  if keep_share is not None and threshold:
    raise ConfigError("--threshold and --keep_share: give one of them, each says what is kept")
  if keep_share is not None and not 0 < keep_share <= 1:
    raise ConfigError(f"--keep_share {keep_share}: the share of each class, above 0 to 1")
  if keep_share is not None:
    return Rule(share=keep_share)
  found = dict.fromkeys(classes, 0.0)
  for text in map(str, threshold):
    name, _, number = text.rpartition("=")
    if name and name not in found:
      raise ConfigError(f"--threshold {text}: no class {name!r}; there are {', '.join(classes)}")
    found.update(dict.fromkeys([name] if name else classes, _share(number, text)))
  return Rule(tuple(found.values())) if threshold else ALL


def _share(number: str, text: str) -> float:
  try:
    value = float(number)
  except ValueError:
    value = -1.0
  if not 0 <= value <= 1:  # nor NaN
    raise ConfigError(f"--threshold {text}: a confidence from 0 to 1, or CLASS=0.9")
  return value


def kept(
  found: Iterable[tuple[K, Values]], rule: Rule, classes: int, place: pathlib.Path
) -> Iterator[tuple[K, Values]]:
  """Yields what is found with IGNORE as label, and confidence 0, of pixels that are not kept.

  A share takes two passes: all is stored in a hidden folder in `place` between them.
  """
  if not rule.share:
    levels = np.rint(255 * np.asarray(rule.thresholds or (0.0,) * classes)).astype(int)
    for key, values in found:  # as method.self_training.threshold compares
      yield key, _filtered(values, values[CONFIDENCE] >= _table(levels, 256)[values[LABEL]])
    return
  counts, keys = np.zeros((classes, _LEVELS), np.int64), []
  with files.hidden(place / "labels") as folder:
    for number, (key, values) in enumerate(found):
      keys.append(key)
      counts += _histogram(values[LABEL], values[DOUBT], classes)
      np.savez_compressed(folder / f"{number}.npz", **values)
    levels = _table(levels_of_share(counts, rule.share), -1)
    for number, key in enumerate(keys):
      with np.load(folder / f"{number}.npz") as stored:
        values = {name: stored[name] for name in stored.files}
      yield key, _filtered(values, values[DOUBT].view(np.uint16) <= levels[values[LABEL]])


def _histogram(label: np.ndarray, doubt: np.ndarray, classes: int) -> np.ndarray:
  """Pixels of each class and bits of doubt, int64 [K,levels]; others do not count."""
  inside = label < classes
  at = label[inside].astype(np.int64) * _LEVELS + doubt[inside].view(np.uint16)
  return np.bincount(at, minlength=classes * _LEVELS).reshape(classes, _LEVELS)


def levels_of_share(counts: np.ndarray, share: float) -> np.ndarray:
  """Returns int [K], the level of each class up to which `share` of its pixels lie.

  Args:
    counts: pixels [K,levels] of each level of doubt, rising.
    share: above 0 to 1.
  """
  wanted = np.ceil(share * counts.sum(1, keepdims=True) - 1e-9)
  return (counts.cumsum(1) >= wanted).argmax(1)


def _table(levels: np.ndarray, never: int) -> np.ndarray:
  """[256] of levels [K]; what is no class is never kept."""
  return np.append(levels, np.full(IGNORE + 1 - len(levels), never))


def _filtered(values: Values, is_kept: np.ndarray) -> Values:
  label, confidence = values[LABEL], values[CONFIDENCE]
  others = {name: x for name, x in values.items() if name != DOUBT}
  return others | {
    LABEL: np.where(is_kept, label, np.uint8(IGNORE)),
    CONFIDENCE: np.where(is_kept, confidence, np.uint8(0)),
  }
