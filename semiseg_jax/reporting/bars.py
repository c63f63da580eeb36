"""Scores of classes, drawn as SVG: bars of one run, dots on a line of several."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from semiseg_jax.reporting import lines, scales
from semiseg_jax.reporting.lines import color
from semiseg_jax.reporting.markup import Node, el

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT, _RIGHT = 540, 21, 6, 24, 124, 84
_LETTERS = 20  # of a class
_MANY = 30  # classes of a chart that scrolls


@dataclasses.dataclass(frozen=True)
class Scores:
  """Of a run: its name, its color, class -> score."""

  name: str
  color: int
  values: Mapping[str, float]


def chart(title: str, runs: Sequence[Scores], shares: Mapping[str, float], kind: str = "") -> Node:
  """Returns a figure, the class with the best mean score first, absent classes last.

  Args:
    title: of the chart.
    runs: scores are fractions, NaN for an absent class; classes that only some have are shown too.
    shares: class -> its share of the labeled pixels, which stands behind; may be empty.
    kind: a further class of the style sheet.
  """
  names = list(dict.fromkeys(name for run in runs for name in run.values))
  names.sort(key=lambda name: -_mean(name, runs))
  height = _TOP + _ROW * len(names) + _BOTTOM
  svg = el(
    "svg",
    viewBox=f"0 0 {_WIDTH} {height}",
    role="img",
    aria_label=f"{title}; the numbers stand in the table below",
  )
  svg.extend(_axis(height))
  for k, name in enumerate(names):
    svg.extend(_row(name, runs, _TOP + _ROW * k, shares))
  said = " %; on the right the share of the labeled pixels" if shares else " %"
  legend = lines.legend([(run.name, run.color) for run in runs]) if len(runs) > 1 else None
  caption = el("figcaption", title, el("span", said))
  return el(
    "figure", caption, legend, svg, class_=f"chart detailed {kind}{' tall' * (len(names) > _MANY)}"
  )


def _mean(name: str, runs: Sequence[Scores]) -> float:
  values = [run.values[name] for run in runs if not math.isnan(run.values.get(name, math.nan))]
  return math.fsum(values) / len(values) if values else -1.0


def _x(value: float) -> float:
  return _LEFT + min(max(value, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _axis(height: float) -> list[Node]:
  found, base = [], height - _BOTTOM
  for tick in range(0, 101, 20):
    x = _x(tick / 100)
    found.append(el("line", x1=x, x2=x, y1=_TOP, y2=base, class_="grid"))
    found.append(el("text", tick, x=x, y=base + 15, text_anchor="middle"))
  return found


def _row(name: str, runs: Sequence[Scores], top: float, shares: Mapping[str, float]) -> list[Node]:
  middle = top + _ROW / 2
  short = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
  text = el("text", short, x=_LEFT - 8, y=middle + 4, text_anchor="end", class_="strong")
  if short != name:
    text.append(el("title", name))
  found = [text]
  if name in shares:
    share = f"{100 * shares[name]:.2g}" if shares[name] < 0.1 else f"{100 * shares[name]:.0f}"
    behind = el("text", f"{share} %", x=_WIDTH - 2, y=middle + 4, text_anchor="end")
    behind.append(el("title", f"{name}: {share} % of the labeled pixels"))
    found.append(behind)
  known = [run for run in runs if not math.isnan(run.values.get(name, math.nan))]
  if not known:
    return [*found, el("text", "not in the labels, not predicted", x=_LEFT + 6, y=middle + 4)]
  return found + (_bar(name, known[0], middle) if len(runs) == 1 else _dots(name, known, middle))


def _bar(name: str, run: Scores, middle: float) -> list[Node]:
  value, at = run.values[name], _x(run.values[name])
  bar = el(
    "rect",
    el("title", _told(name, run)),
    x=_LEFT,
    y=middle - 6,
    width=max(at - _LEFT, 1.0),
    height=12,
    rx=2,
    style=f"fill:{color(run.color)}",
  )
  said = scales.percent(value)
  return [bar, el("text", said, x=at + 6, y=middle + 4, class_="strong")]


def _dots(name: str, runs: Sequence[Scores], middle: float) -> list[Node]:
  at = [_x(run.values[name]) for run in runs]
  found = [el("line", x1=min(at), x2=max(at), y1=middle, y2=middle, class_="axis")]
  for run, x in zip(runs, at):
    style = f"fill:{color(run.color)}"
    found.append(el("circle", el("title", _told(name, run)), cx=x, cy=middle, r=5, style=style))
  low, high = (scales.percent(f(run.values[name] for run in runs)) for f in (min, max))
  said = low if low == high else f"{low} – {high}"
  return [*found, el("text", said, x=max(at) + 10, y=middle + 4)]


def _told(name: str, run: Scores) -> str:
  return f"{run.name}, {name}: {scales.percent(run.values[name])} %"
