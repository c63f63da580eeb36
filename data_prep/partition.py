"""Divides pictures into parts: whole groups, each class in its share, the same for a seed.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label
data", ECML PKDD 2011) of units that are pictures, or groups of them: patients, videos, parts.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.wording import counted

_SHOWN = 8  # groups named of many


def groups_found(ids: Sequence[str], pattern: str) -> list[str | None]:
  """As `group_names`, but None or "" for an id in which it finds none."""
  try:
    finder = re.compile(pattern)
  except re.error as error:
    raise OptionError(f"--group {pattern!r} is no regular expression: {error}") from error
  which = 1 if finder.groups else 0
  return [match and match[which] for match in map(finder.search, ids)]


def group_names(ids: Sequence[str], pattern: str) -> list[str]:
  """The group of each id: the pattern's first group where it has one, else what it matches.

  Raises:
    DataError: no regular expression, or ids in which it finds nothing, all of them named.
  """
  names = groups_found(ids, pattern)
  problems = [f"{id_!r}: finds no group in it" for id_, name in zip(ids, names) if not name]
  if problems:
    raise DataError.of_all(
      f"--group {pattern!r} must find a group in every id, such as 'patient_3' by "
      r"'patient_\d+':",
      problems,
    )
  return names


def describe(groups: Iterable[str]) -> str:
  """'3 groups: a, b, c', the first of many."""
  names = sorted(set(groups))
  more = ", ..." if len(names) > _SHOWN else ""
  noun = "group" if len(names) == 1 else "groups"
  return f"{len(names)} {noun}: {', '.join(names[:_SHOWN])}{more}"


def shares(count: int, parts: int) -> list[int]:
  """`parts` numbers that differ by one at most and sum to `count`."""
  return [count // parts + (part < count % parts) for part in range(parts)]


def divide(
  groups: Sequence[str], shown: np.ndarray, wanted: Sequence[int], seed: int
) -> np.ndarray:
  """The part of each picture, int [N].

  The class that the fewest of the pictures left show is dealt out first, each time to the part
  that lacks most of it; of equal ones to that which has fewest of it, then to that which lacks most
  pictures, then by lot. Parts of single pictures have exactly the wanted sizes, those of groups
  about these, and none is empty.

  Args:
    groups: [N] the group of each picture, of which all go to one part.
    shown: bool [N, K], which classes a picture shows; K = 0 divides by lot and number alone.
    wanted: [P] numbers of pictures that sum to N.
    seed: of the lots.

  Raises:
    DataError: fewer groups than parts.
  """
  names, unit_of = np.unique(np.asarray(groups), return_inverse=True)
  if len(names) < len(wanted):
    raise DataError(
      f"{counted(len(groups), 'labeled picture')} of {describe(names.tolist())} cannot be divided "
      "into "
      f"{len(wanted)} parts of whole groups; ask for fewer parts, or for smaller groups (--group)"
    )
  sizes = np.bincount(unit_of)
  counts = np.zeros((len(names), shown.shape[1]), np.int64)
  np.add.at(counts, unit_of, shown)
  parts = _deal(counts, sizes, np.asarray(wanted), np.random.default_rng(seed))
  _fill(parts, sizes, np.asarray(wanted))
  return parts[unit_of]


def _deal(
  counts: np.ndarray, sizes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """The part of each unit, of `counts` [U, K] pictures per class and `sizes` [U] pictures."""
  lots, lots_of_parts = rng.permutation(len(sizes)), rng.permutation(len(wanted))
  parts, left = np.full(len(sizes), -1), wanted.astype(np.float64)
  need = np.outer(wanted / wanted.sum(), counts.sum(0))  # [P, K]
  have = np.zeros_like(need)
  while (free := np.flatnonzero(parts < 0)).size:
    remaining = counts[free].sum(0)
    rarest = min(np.flatnonzero(remaining), key=lambda c: remaining[c], default=None)
    of_class = np.zeros(len(sizes)) if rarest is None else counts[:, rarest]
    dealt = free if rarest is None else free[of_class[free] > 0]
    for unit in sorted(dealt, key=lambda u: (-of_class[u], lots[u])):
      is_open = (left >= sizes[unit] / 2) & (left > 0)
      # Rounded, so that the last bit of a share does not decide between equal parts.
      parts[unit] = part = max(
        np.flatnonzero(is_open) if is_open.any() else range(len(wanted)),
        key=lambda p: (
          *(() if rarest is None else (round(need[p, rarest], 9), -have[p, rarest])),
          left[p],
          lots_of_parts[p],
        ),
      )
      left[part] -= sizes[unit]
      need[part] -= counts[unit]
      have[part] += counts[unit]
  return parts


def _fill(parts: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> None:
  """Gives each empty part the unit of the size that is nearest to what it wants."""
  for part in range(len(wanted)):
    if not (parts == part).any():
      spare = np.flatnonzero(np.bincount(parts, minlength=len(wanted))[parts] > 1)
      parts[spare[np.argmin(abs(sizes[spare] - wanted[part]))]] = part
