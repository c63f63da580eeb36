"""The order in which pictures are to be labeled.

`combined`: the most uncertain pictures, ten times as many as are asked for but at most half of all,
and of them those that k-center greedy chooses, so that they differ from what is labeled and from
each other.  Uncertain is whose mean rank by entropy and by disagreement is high; with one network,
by entropy.  Every other rule takes the highest scores of its name.  A copy of a picture that is
labeled or suggested is not suggested by any rule.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from semiseg_jax.suggesting import centers
from semiseg_jax.suggesting.measures import MEASURES, ranks

RULES = ("combined", *MEASURES, "diversity")
CANDIDATES = 10  # times the number that is asked for
AT_MOST = 0.5  # of all pictures: more would leave the choice to diversity alone


@dataclasses.dataclass(frozen=True)
class Scores:
  """Of P pictures.

  Attributes:
    ids: of the pictures.
    measures: float [P,3], see `measures`.
    features: float32 [P,D] of length 1.
    diversity: [P], the distance to the nearest labeled picture; infinite where none is labeled.
    networks: N.
  """

  ids: tuple[str, ...]
  measures: np.ndarray
  features: np.ndarray
  diversity: np.ndarray
  networks: int

  def of(self, measure: str) -> np.ndarray:
    """Returns [P] of a measure, or of 'diversity'."""
    if measure == "diversity":
      return self.diversity
    return self.measures[:, MEASURES.index(measure)]

  @property
  def uncertainty(self) -> np.ndarray:
    """The mean rank by entropy and, of several networks, by disagreement: [P] from 0 to 1."""
    names = ("entropy", "disagreement") if self.networks > 1 else ("entropy",)
    return np.mean([ranks(self.of(name)) for name in names], axis=0)


@dataclasses.dataclass(frozen=True)
class Suggestion:
  """A picture to label.

  Attributes:
    index: of the picture.
    apart: its distance to the nearest picture that is labeled, or suggested before it.
    reason: for people.
  """

  index: int
  apart: float
  reason: str


def suggest(scores: Scores, number: int, by: str = "combined") -> list[Suggestion]:
  """Returns at most `number` pictures in the order in which they are to be labeled.

  Fewer where there are fewer, or all others are copies.

  Args:
    scores: of all.
    number: that are asked for.
    by: one of RULES.
  """
  if by == "diversity":
    rows, apart = centers.k_center(scores.features, scores.diversity, number)
  elif by == "combined":
    rows, apart = _combined(scores, number)
  else:
    rows, apart = _highest(scores, number, scores.of(by))
  places = np.argsort(order(scores, by))
  return [
    Suggestion(row, far, _reason(scores, by, row, int(places[row]), far))
    for row, far in zip(rows, apart)
  ]


def order(scores: Scores, by: str) -> np.ndarray:
  """Returns the pictures from the highest to the lowest score of a rule; equal ones keep theirs."""
  values = scores.uncertainty if by == "combined" else scores.of(by)
  return np.argsort(-values, kind="stable")


def _combined(scores: Scores, number: int) -> tuple[list[int], list[float]]:
  by_uncertainty = order(scores, "combined")
  count = max(number, min(CANDIDATES * number, int(AT_MOST * len(scores.ids))))
  while True:
    some = by_uncertainty[:count]
    rows, apart = centers.k_center(scores.features[some], scores.diversity[some], number)
    if len(rows) == number or count >= len(scores.ids):
      return [int(some[row]) for row in rows], apart
    count *= 2  # among them were so many copies


def _highest(scores: Scores, number: int, values: np.ndarray) -> tuple[list[int], list[float]]:
  rows: list[int] = []
  apart: list[float] = []
  for row in np.argsort(-values, kind="stable"):
    if len(rows) == number:
      break
    near = centers.nearest(scores.features[row : row + 1], scores.features[rows])
    far = min(float(near[0]), float(scores.diversity[row]))
    if far >= centers.SAME:
      rows.append(int(row))
      apart.append(far)
  return rows, apart


def _reason(scores: Scores, by: str, row: int, place: int, apart: float) -> str:
  pictures = len(scores.ids)
  distance = "the first center" if np.isinf(apart) else f"{apart:.2f} from the nearest picture"
  if by == "diversity":
    return distance
  names: Sequence[str] = (by,)
  if by == "combined":
    names = MEASURES[:2] if scores.networks > 1 else MEASURES[:1]
  values = ", ".join(f"{name} {scores.of(name)[row]:.2f}" for name in names)
  kind = "uncertain" if by == "combined" else by
  return f"{kind}: {place + 1} of {pictures} ({values}); {distance}"
