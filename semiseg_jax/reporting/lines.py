"""Curves over steps, drawn as SVG: round ticks, labels at the ends of lines, values on hovering."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from semiseg_jax.reporting import scales
from semiseg_jax.reporting.markup import Node, el
from semiseg_jax.wording import counted

COLORS = 8  # of the style sheet, told apart by the color-blind; then the lines are dashed
_DASHES = (None, "6 3", "2 3", "9 3 2 3")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 420, 232, 46, 14, 30
_LABEL, _LETTER, _LINE = 116, 6.1, 13  # most width of a label; pixels of a letter, of a line
_DRAWN = 160  # points of a line; of more the means of neighbors are drawn
_HOVERED = 160  # points of a chart that tell their value
_MOST = 1e300  # greater values would overflow in drawing
_LABELED = 8  # lines that have labels; of more the legend tells
_WIDE = 60.0  # greatest value over the smallest from which on an axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Line:
  """A curve: its name, points by step, number of its color, and step -> (low, high) around it."""

  name: str
  points: Sequence[tuple[float, float]]
  color: int = 0
  around: Mapping[float, tuple[float, float]] = dataclasses.field(default_factory=dict)


def color(number: int) -> str:
  """Returns the CSS value of a color."""
  return f"var(--c{number % COLORS})"


def legend(names: Sequence[tuple[str, int]], content: Callable[[str], Any] = str) -> Node:
  """Returns a list of names with their colors.

  Args:
    names: (name, number of its color).
    content: what stands for a name.
  """
  items = []
  for name, number in names:
    line = el(
      "line",
      x1=0,
      x2=22,
      y1=4,
      y2=4,
      stroke_width=4,
      style=f"stroke:{color(number)}",
      stroke_dasharray=dash(number),
    )
    swatch = el("svg", line, viewBox="0 0 22 8", class_="swatch", aria_hidden="true")
    items.append(el("li", swatch, el("span", content(name))))
  return el("ul", items, class_="legend")


def dash(number: int) -> str | None:
  """Returns how a line of this color number is dashed; the first `COLORS` are not."""
  return _DASHES[number // COLORS % len(_DASHES)]


def chart(
  title: str,
  lines: Sequence[Line],
  *,
  percent: bool = False,
  log: bool = True,
  across: str = "step",
) -> Node:
  """Returns a figure.

  Args:
    title: of the chart.
    lines: curves; those without a finite point are not drawn.
    percent: values are fractions and are shown in percent.
    log: whether the axis is logarithmic where values span decades.
    across: what stands on the other axis.
  """
  drawn = [(line, *_thinned(line)) for line in lines]
  drawn = [entry for entry in drawn if entry[1]]
  notes = ["%" if percent else ""]
  caption = el("figcaption", title)
  figure = el("figure", caption, class_="chart")
  if not drawn:
    figure.append(el("p", "No finite value.", class_="soft small"))
    return figure
  frame = _Frame.around(drawn, percent, log)
  if frame.log:
    notes.append("log scale")
  if any(len(line.points) > _DRAWN for line, *_ in drawn):
    notes.append("means, range shaded")
  elif any(line.around for line, *_ in drawn):
    notes.append("95 % interval shaded")
  lost = sum(len(line.points) - len(_finite(line.points)) for line, *_ in drawn)
  if lost:
    notes.append(f"{counted(lost, 'value')} not finite")
  said = ", ".join(filter(None, notes))
  caption.append(el("span", f" {said}" if said else ""))
  figure.append(_svg(title, drawn, frame, across))
  return figure


Points = Sequence[tuple[float, float]]


def _finite(points: Points) -> Points:
  return [(x, y) for x, y in points if abs(y) < _MOST]


Buckets = list[tuple[float, float]]  # lowest and highest value of what a point stands for


def _thinned(line: Line) -> tuple[Points, Buckets]:
  """At most `_DRAWN` points, and the range of each."""
  points = _finite(line.points)
  if len(points) <= _DRAWN:
    return points, [line.around.get(x, (y, y)) for x, y in points]
  size = -(-len(points) // _DRAWN)
  parts = [points[k : k + size] for k in range(0, len(points), size)]
  mean = lambda values: math.fsum(values) / len(values)
  drawn = [(mean([x for x, _ in part]), mean([y for _, y in part])) for part in parts]
  return drawn, [(min(y for _, y in part), max(y for _, y in part)) for part in parts]


@dataclasses.dataclass(frozen=True)
class _Frame:
  """Where values lie in a drawing."""

  x: tuple[float, float]
  y: tuple[float, float]
  log: bool
  percent: bool
  right: float

  @classmethod
  def around(cls, drawn: Sequence[tuple], percent: bool, may_log: bool) -> "_Frame":
    steps = [x for _, points, _ in drawn for x, _ in points]
    values = [y for _, points, ranges in drawn for pair in ranges for y in pair]
    log = may_log and not percent and min(values) > 0 and max(values) / min(values) >= _WIDE
    if log:
      low, high = min(values) / 1.2, max(values) * 1.2
    else:
      low, high = scales.domain(values, zero=percent or 0 <= min(values) < 0.5 * max(values))
      high = min(high, max(1.0, max(values))) if percent else high
    labels = [_label(line.name, points[-1][1], len(drawn), percent) for line, points, _ in drawn]
    width = max(map(len, labels)) * _LETTER + 8 if len(drawn) <= _LABELED else 10
    span = (0.0, max(steps) or 1.0)
    return cls(span, (low, high), log, percent, _WIDTH - min(width, _LABEL))

  def at(self, x: float, y: float) -> tuple[float, float]:
    across = (x - self.x[0]) / (self.x[1] - self.x[0])
    scale = math.log if self.log else float
    low, high = map(scale, self.y)
    up = (scale(y) - low) / (high - low)
    return _LEFT + across * (self.right - _LEFT), _HEIGHT - _BOTTOM - up * (
      _HEIGHT - _BOTTOM - _TOP
    )

  def say(self, y: float) -> str:
    return scales.percent(y) if self.percent else scales.number(y)


def _label(name: str, value: float, lines: int, percent: bool) -> str:
  said = scales.percent(value) if percent else scales.number(value)
  if lines == 1:
    return said
  most = int(_LABEL / _LETTER) - len(said) - 2
  return f"{name if len(name) <= most else '…' + name[1 - most :]} {said}"


def _svg(title: str, drawn: Sequence[tuple], frame: _Frame, across: str) -> Node:
  ends = [f"{line.name}: {frame.say(points[-1][1])}" for line, points, _ in drawn[:_LABELED]]
  svg = el(
    "svg",
    viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
    role="img",
    aria_label=f"{title} by {across}; at the end {', '.join(ends)}",
  )
  svg.extend(_axes(frame, across))
  for line, points, ranges in drawn:
    svg.extend(_curve(line, points, ranges, frame))
  svg.extend(_labels(drawn, frame))
  hovered = max(3, _HOVERED // len(drawn))
  for line, points, _ in drawn:
    svg.extend(_hovers(line, points, frame, hovered, across))
  return svg


def _axes(frame: _Frame, across: str) -> list[Node]:
  found = []
  for y in scales.log_ticks(*frame.y) if frame.log else scales.ticks(*frame.y):
    _, place = frame.at(frame.x[0], y)
    said = f"{100 * y:g}" if frame.percent else scales.number(y)
    found.append(el("line", x1=_LEFT, x2=frame.right, y1=place, y2=place, class_="grid"))
    found.append(el("text", said, x=_LEFT - 6, y=place + 4, text_anchor="end"))
  base = _HEIGHT - _BOTTOM
  found.append(el("line", x1=_LEFT, x2=frame.right, y1=base, y2=base, class_="axis"))
  for x in scales.ticks(*frame.x, 4):
    place, _ = frame.at(x, frame.y[0])
    if x == int(x):
      found.append(el("line", x1=place, x2=place, y1=base, y2=base + 4, class_="axis"))
      found.append(el("text", scales.step(x), x=place, y=base + 16, text_anchor="middle"))
  middle = (_LEFT + frame.right) / 2
  found.append(el("text", across, x=middle, y=_HEIGHT - 2, text_anchor="middle"))
  return found


def _curve(line: Line, points: Sequence, ranges: Buckets, frame: _Frame) -> list[Node]:
  at = [frame.at(x, y) for x, y in points]
  found = []
  if any(high > low for low, high in ranges):
    above = [frame.at(x, high) for (x, _), (_, high) in zip(points, ranges)]
    below = [frame.at(x, low) for (x, _), (low, _) in zip(points, ranges)]
    outline = _path([*above, *reversed(below)])
    found.append(el("polygon", points=outline, class_="band", style=f"fill:{color(line.color)}"))
  style = f"stroke:{color(line.color)}"
  found.append(
    el(
      "polyline",
      points=_path(at),
      class_="curve",
      style=style,
      stroke_dasharray=dash(line.color),
    )
  )
  if len(at) <= 12:  # evaluations are few: each is seen
    fill = f"fill:{color(line.color)}"
    found += [el("circle", cx=x, cy=y, r=2.6, style=fill) for x, y in at]
  return found


def _path(at: Sequence[tuple[float, float]]) -> str:
  return " ".join(f"{x:.1f},{y:.1f}" for x, y in at)


def _labels(drawn: Sequence[tuple], frame: _Frame) -> list[Node]:
  if len(drawn) > _LABELED:
    return []
  texts, places, colors = [], [], []
  for line, points, _ in drawn:
    texts.append(_label(line.name, points[-1][1], len(drawn), frame.percent))
    places.append(frame.at(*points[-1])[1])
    colors.append(line.color)
  return [
    el("text", text, x=frame.right + 6, y=y + 4, style=f"fill:{color(number)}")
    for text, y, number in zip(texts, spread(places, _LINE, _TOP, _HEIGHT - _BOTTOM), colors)
  ]


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
  """Returns places at least `gap` apart, near where they were and, if they fit, in [low, high]."""
  order = sorted(range(len(places)), key=places.__getitem__)
  found = list(places)
  for before, k in zip([None, *order], order):
    found[k] = max(found[k], low if before is None else found[before] + gap)
  limit = high
  for k in reversed(order):
    found[k] = min(found[k], limit)
    limit = found[k] - gap
  return found


def _hovers(line: Line, points: Sequence, frame: _Frame, most: int, across: str) -> list[Node]:
  every = max(1, -(-len(points) // most))
  kept = [*points[::-every]][::-1]  # the last one is among them
  return [
    el(
      "circle",
      el("title", f"{line.name}, {across} {x:g}: {frame.say(y)}"),
      cx=place[0],
      cy=place[1],
      r=5,
      class_="point",
      style=f"fill:{color(line.color)}",
    )
    for x, y in kept
    for place in [frame.at(x, y)]
  ]
