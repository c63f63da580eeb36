"""Confusion matrices, drawn as SVG, and their largest mistakes."""

from collections.abc import Sequence
from typing import NamedTuple

from semiseg_jax.reporting.markup import Node, el

DRAWN = 40  # classes of a matrix that is drawn
_WRITTEN = 21  # classes up to which the cells have numbers
_LETTERS, _LETTER = 16, 6.0
_SIDE = 620


class Mistake(NamedTuple):
  """share: of the pixels of `truth` that were predicted to be `predicted`; pixels: their number."""

  truth: str
  predicted: str
  share: float
  pixels: int


def chart(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Node:
  """Returns a figure of the shares of each row.

  Args:
    counts: [C,C], rows truth.
    classes: names.
  """
  count = len(classes)
  names = [c if len(c) <= _LETTERS else c[: _LETTERS - 1] + "…" for c in classes]
  margin = 26 + max(map(len, names)) * _LETTER
  size = (_SIDE - margin) / count
  font = min(11.0, max(7.0, size * 0.8))
  svg = el(
    "svg",
    viewBox=f"0 0 {_SIDE} {margin + size * count + 4:.0f}",
    role="img",
    aria_label="Confusion matrix; the largest mistakes stand in the table beside it",
  )
  style = f"font-size:{font:.1f}px"
  for k, name in enumerate(names):
    middle = margin + size * (k + 0.5)
    svg.append(
      el("text", name, x=margin - 6, y=middle + 4, text_anchor="end", class_="strong", style=style)
    )
    turned = f"rotate(-90 {middle + 4:.1f} {margin - 6:.1f})"
    svg.append(
      el("text", name, x=middle + 4, y=margin - 6, transform=turned, class_="strong", style=style)
    )
  svg.append(el("text", "truth ↓  predicted →", x=2, y=12))
  for i, row in enumerate(counts):
    svg.extend(_row(i, row, classes, margin, size))
  caption = el("figcaption", "Confusion", el("span", " % of the pixels of each class (of a row)"))
  return el("figure", caption, svg, class_="chart detailed")


def _row(
  i: int, row: Sequence[int], classes: Sequence[str], margin: float, size: float
) -> list[Node]:
  total, found, texts = sum(row), [], []
  for j, pixels in enumerate(row):
    share = pixels / total if total else 0.0
    x, y = margin + size * j, margin + size * i
    told = f"{classes[i]} predicted as {classes[j]}: {100 * share:.1f} % "
    told += f"({pixels:,} {'pixel' if pixels == 1 else 'pixels'})"
    found.append(
      el(
        "rect",
        el("title", told),
        x=x,
        y=y,
        width=size,
        height=size,
        class_="cell diagonal" if i == j else "cell",
        fill_opacity=round(0.03 + 0.82 * share**0.7, 3) if share else 0.02,
      )
    )
    if len(classes) <= _WRITTEN and share >= 0.005:
      said = f"{100 * share:.0f}"
      place = {"x": x + size / 2, "y": y + size / 2 + 3.5}
      texts.append(el("text", said, **place, text_anchor="middle", class_="in-cell"))
  return found + texts


def mistakes(
  counts: Sequence[Sequence[int]], classes: Sequence[str], number: int = 12
) -> list[Mistake]:
  """Returns the confusions with the most pixels, the largest first."""
  every = [
    Mistake(classes[i], classes[j], pixels / sum(row), pixels)
    for i, row in enumerate(counts)
    for j, pixels in enumerate(row)
    if i != j and pixels
  ]
  return sorted(every, key=lambda mistake: -mistake.pixels)[:number]
