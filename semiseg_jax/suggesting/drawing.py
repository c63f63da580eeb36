"""Makes the rows of the sheet: reads the pictures that are shown once more."""

from collections.abc import Mapping, Sequence

import numpy as np

from semiseg_jax.suggesting import networks, sheet
from semiseg_jax.suggesting.measures import MEASURES
from semiseg_jax.suggesting.networks import Networks
from semiseg_jax.suggesting.ranking import Scores, Suggestion
from semiseg_jax.suggesting.sources import Source, results
from semiseg_jax.suggesting.suspects import Judge, Region
from semiseg_jax.suggesting.tables import picture_score
from semiseg_jax.wording import counted

SHOWN = 24  # rows of a column
_FRAMED = 5  # regions of a picture
_BRIGHTEST = 99.5  # percentile of the doubt that is yellow


def page(
  run: Networks,
  source: Source,
  labeled: Source | None,
  scores: Scores,
  suggestions: Sequence[Suggestion],
  judge: Judge | None,
  suspicious: Mapping[str, Sequence[Region]],
  by: str,
) -> np.ndarray:
  """Returns the sheet uint8 [H,W,3] of the first `SHOWN` of both lists.

  Args:
    run: its networks label the pictures.
    source, labeled: hold them.
    scores, suggestions, by: as they were ranked.
    judge, suspicious: of labels; None and nothing where there are none.
  """
  measure = by if by in MEASURES else MEASURES[0]
  left, most = _suggested(run, source, scores, suggestions[:SHOWN], measure)
  right = []
  if labeled and judge:
    right = _suspicious(run, labeled, judge, dict(list(suspicious.items())[:SHOWN]))
  heads = (
    f"Label next, by {by}: {len(left)} of {len(suggestions)} shown (uncertainty: {measure}, black "
    f"0 to yellow {most:.2f})",
    f"Look at these labels again: {len(right)} of {counted(len(suspicious), 'picture')} shown "
    "(orange: label "
    "and prediction differ; red: suspicious)"
    if right
    else "No suspicious labels",
  )
  return sheet.page(left, right, heads, run.classes, run.colors)


def _suggested(
  run: Networks,
  source: Source,
  scores: Scores,
  suggestions: Sequence[Suggestion],
  measure: str,
) -> tuple[list[sheet.Row], float]:
  """The rows, and the doubt that is yellow in all of them."""
  ids = [scores.ids[one.index] for one in suggestions]
  doubts, labels = (results(program, source, ids) for program in (run.doubt, run.certain))
  k, seen = MEASURES.index(measure), []
  for (picture, doubt), (_, (label, _)) in zip(doubts, labels, strict=True):
    panels = sheet.panels(picture.image, (label,), run.colors, sheet.WIDE)
    seen.append((picture.id, panels, sheet.small(networks.doubt_maps(doubt)[..., k], sheet.WIDE)))
  most = max((float(np.percentile(doubt, _BRIGHTEST)) for *_, doubt in seen), default=0) or 1.0
  notes = {scores.ids[one.index]: (rank, one.reason) for rank, one in enumerate(suggestions, 1)}
  rows = []
  for id_, panels, doubt in seen:
    rank, reason = notes[id_]
    rows.append(sheet.suggested_row(f"{rank}.  {id_}", reason, panels, doubt / most))
  return rows, most


def _suspicious(
  run: Networks,
  labeled: Source,
  judge: Judge,
  suspicious: Mapping[str, Sequence[Region]],
) -> list[sheet.Row]:
  rows: list[sheet.Row] = []
  found = results(run.certain, labeled, list(suspicious))
  for rank, (seen, (prediction, p)) in enumerate(found, 1):
    regions = suspicious[seen.id]
    first = regions[0]
    label, other = run.classes[first.label], run.classes[first.suggested]
    note = (
      f"score {picture_score(regions):.3f}, {counted(len(regions), 'region')}; the first: "
      f"{counted(first.pixels, 'pixel')} of {label} (p {first.p_label:.2f}) look like {other} (p "
      f"{first.p_suggested:.2f})"
    )
    suggested = judge.suggested(seen.label, p, seen.valid)
    rows.append(
      sheet.suspicious_row(
        f"{rank}.  {seen.id}",
        note,
        seen.image,
        seen.label,
        prediction,
        suggested,
        [region.box for region in regions[:_FRAMED]],
        run.colors,
      )
    )
  return rows
