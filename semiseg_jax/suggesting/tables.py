"""Both lists as text: one name a line, and all scores as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semiseg_jax.suggesting import ranking
from semiseg_jax.suggesting.measures import MEASURES
from semiseg_jax.suggesting.ranking import Scores, Suggestion
from semiseg_jax.suggesting.suspects import Region

SUGGESTED = ("rank", "id", "suggested", "uncertainty", *MEASURES, "diversity", "apart", "reason")
SUSPICIOUS = (
  "rank", "id", "picture_score", "score", "label", "suggested", "x", "y", "width", "height",
  "pixels", "p_label", "p_suggested", "percentile",
)  # fmt: skip


def names(scores: Scores, suggestions: Sequence[Suggestion]) -> str:
  """Returns the ids of suggested pictures in their order, one a line."""
  return "".join(f"{scores.ids[one.index]}\n" for one in suggestions)


def suggested(scores: Scores, suggestions: Sequence[Suggestion], by: str) -> str:
  """Returns the CSV of all pictures: the suggested ones in their order, then all others by score.

  `rank` counts all, `suggested` is yes or no; `apart` and `reason` are of suggested ones alone.
  Without a labeled picture `diversity` is empty, and with one network `disagreement`.
  """
  chosen = {one.index: one for one in suggestions}
  rest = [int(row) for row in ranking.order(scores, by) if int(row) not in chosen]
  uncertainty = scores.uncertainty
  rows = []
  for rank, row in enumerate([*chosen, *rest], 1):
    one = chosen.get(row)
    values = dict(zip(MEASURES, scores.measures[row]))
    if scores.networks == 1:
      values["disagreement"] = np.inf
    rows.append((
      rank, scores.ids[row], "yes" if one else "no", _number(uncertainty[row]),
      *(_number(values[name]) for name in MEASURES), _number(scores.diversity[row]),
      _number(one.apart) if one else "", one.reason if one else "",
    ))  # fmt: skip
  return _csv(SUGGESTED, rows)


def suspicious(found: Mapping[str, Sequence[Region]], classes: Sequence[str]) -> str:
  """Returns the CSV of all regions, those of the picture with the highest score first.

  Args:
    found: id -> its regions, in the order of the pictures' ranks.
    classes: their names.
  """
  rows = []
  for rank, (id_, regions) in enumerate(found.items(), 1):
    total = picture_score(regions)
    for region in regions:
      rows.append((
        rank, id_, _number(total), _number(region.score), classes[region.label],
        classes[region.suggested], *region.box, region.pixels, _number(region.p_label),
        _number(region.p_suggested), _number(region.percentile),
      ))  # fmt: skip
  return _csv(SUSPICIOUS, rows)


def picture_score(regions: Sequence[Region]) -> float:
  """Returns the score of a picture, in bits per pixel."""
  return sum(region.score for region in regions)


def _number(value: float) -> str:
  return f"{value:.6g}" if np.isfinite(value) else ""


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(head)
  writer.writerows(rows)
  return text.getvalue()
