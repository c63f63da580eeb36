"""What the shapes of annotation files mean: the class of each, and of the pixels in none.

What nobody said and what cannot be drawn is refused with the options to choose from.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from data_prep.annotations import coco, yolo
from data_prep.annotations.drawing import Rules, draw
from data_prep.annotations.options import ShapeOptions
from data_prep.annotations.outlines import Line, Rings
from data_prep.annotations.reading import Annotations
from data_prep.annotations.shapes import Annotated, Shape
from semiseg_jax.data.class_table import ClassTable, default_color
from semiseg_jax.errors import SHOWN, DataError, OptionError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

_BACKGROUND = "background"
_BACKGROUNDS = (_BACKGROUND, "_background_", "__background__", "bg")
_LARGE = 2**28  # pixels, above which a picture is not drawn for that
_FEW = 8  # polygons, of which chance may make rectangles
_SAMPLE = 32  # pictures that are drawn to say how much no shape covers


def classes_with_rest(table: ClassTable, options: ShapeOptions) -> ClassTable:
  """The classes, with 'background' before them where that is asked for and they lack it."""
  there = any(name.lower() in _BACKGROUNDS for name in table.names)
  if options.rest != _BACKGROUND or there:
    return table
  black = (0, 0, 0)
  color = default_color(len(table.names)) if black in table.colors else black
  return dataclasses.replace(
    table,
    names=(_BACKGROUND, *table.names),
    colors=(color, *table.colors),
    source_ids=(-1, *table.source_ids),
  )


def make_rules(
  annotations: Annotations,
  table: ClassTable,
  options: ShapeOptions,
  wrong: list[str],
  say: Callable[[str], None],
) -> Rules:
  """How to draw the shapes; appends to `wrong` what nobody decided, and says what was decided."""
  rest = _rest(table, options)
  by_area = (options.order or ("area" if annotations.kind == coco.KIND else "file")) == "area"
  rules = Rules(
    _values(annotations, table, options, wrong),
    IGNORE if rest is None else rest,
    by_area,
    options.crowd == "class",
    options.line_width or 0.0,
  )
  wrong += _undrawn(annotations, options)
  wrong += _scaled(annotations)
  if rest is None:
    wrong.append(_no_rest(annotations, table, rules))
  kinds = collections.Counter(shape.kind for _, shape in _all(annotations))
  counts = ", ".join(f"{count} {_many(kind, count)}" for kind, count in kinds.most_common())
  names = {None: "undecided", IGNORE: "ignored"} | {i: repr(n) for i, n in enumerate(table.names)}
  say(
    f"{annotations.kind}: {counted(len(annotations.pictures), 'picture')} with "
    f"{counts or 'no shapes'}; of "
    f"shapes that overlap the {'smaller' if by_area else 'later'} one is seen (--shapes_order); "
    f"pixels in no shape are {names[rest]}"
  )
  crowds = sum(shape.crowd for _, shape in _all(annotations))
  if crowds and not rules.crowds_count:
    say(f"NOTE: {crowds} crowds are ignored; --shapes_crowd class takes them for their class")
  if upright := _upright(annotations):
    say(
      f"NOTE: all {upright} polygons are upright rectangles, as if they were boxes around things "
      "and not their outlines"
    )
  return rules


def split_empty(
  pictures: Sequence[Annotated],
  options: ShapeOptions,
  wrong: list[str],
  say: Callable[[str], None],
) -> list[Annotated]:
  """The pictures that are labeled; appends to `wrong` if nobody said what those without shapes are.

  Where the rest is ignored these have no label.
  """
  empty = [annotated for annotated in pictures if not annotated.shapes]
  if not empty or (options.empty == "rest" and options.rest != "ignore"):
    return list(pictures)
  if options.empty or options.rest == "ignore":
    say(f"{counted(len(empty), 'picture')} without any shape: unlabeled")
  else:
    wrong.append(
      f"{counted(len(empty), 'picture is', 'pictures are')} listed without any shape, such as "
      f"{empty[0].picture} in "
      f"{empty[0].where}; give --shapes_empty unlabeled if nobody annotated them yet, or "
      "--shapes_empty rest if they show nothing of the classes"
    )
  return [annotated for annotated in pictures if annotated.shapes]


def _all(annotations: Annotations) -> Iterator[tuple[Annotated, Shape]]:
  for annotated in annotations.pictures:
    for shape in annotated.shapes:
      yield annotated, shape


def _many(kind: str, count: int) -> str:
  if count == 1:
    return kind
  first, blank, more = kind.partition(" ")
  return f"{first}{'es' if first.endswith('x') else 's'}{blank}{more}"


def _rest(table: ClassTable, options: ShapeOptions) -> int | None:
  """The class of pixels in no shape; None when nobody said."""
  if options.rest == "ignore":
    return IGNORE
  if options.rest is None or (options.rest == _BACKGROUND and _BACKGROUND not in table.names):
    named = [i for i, name in enumerate(table.names) if name.lower() in _BACKGROUNDS]
    return named[0] if len(named) == 1 else None
  if options.rest not in table.names:
    raise OptionError(
      f"--shapes_rest {options.rest}: no class of the classes file ({', '.join(table.names)}); "
      "give one of them, 'ignore' or 'background'"
    )
  return table.names.index(options.rest)


def _no_rest(annotations: Annotations, table: ClassTable, rules: Rules) -> str:
  """What to say when nobody said what pixels in no shape are, and how many these are."""
  sized = [a for a in annotations.pictures if a.size and a.shapes and np.prod(a.size) < _LARGE]
  shares = []
  for annotated in sized[:: -(-len(sized) // _SAMPLE) or 1]:
    everything = dataclasses.replace(rules, values=dict.fromkeys(rules.values, 0), rest=1)
    try:
      shares.append(np.mean(draw(annotated, annotated.size, everything) == 1))
    except DataError:  # drawing it for the dataset will tell
      continue
  many = f" ({100 * np.mean(shares):.0f} % of all)" if shares else ""
  return (
    f"pixels in no shape{many} have no class: none of {', '.join(table.names)} is called "
    "background; give --shapes_rest background (a class of its own, the first), --shapes_rest "
    "ignore (they teach nothing), or --shapes_rest with the name of a class"
  )


def _values(
  annotations: Annotations, table: ClassTable, options: ShapeOptions, wrong: list[str]
) -> dict[str | int, int]:
  """The class, or IGNORE, of all labels; appends to `wrong` those that nobody knows."""
  values: dict[str | int, int] = {name: index for index, name in enumerate(table.names)}
  values |= {id_: index for index, id_ in enumerate(table.source_ids) if id_ >= 0}
  if table.ignored_name is not None:
    values[table.ignored_name] = IGNORE
  if table.ignore_id is not None and table.ignored_name is not None:
    values[table.ignore_id] = IGNORE
  unknown: dict[str | int, list[Annotated]] = collections.defaultdict(list)
  for annotated, shape in _all(annotations):
    if shape.label not in values:
      unknown[shape.label].append(annotated)
  if unknown and options.unknown is None:
    names = ", ".join(
      f"{name!r} ({counted(len(of), 'shape')})" for name, of in list(unknown.items())[:SHOWN]
    )
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    first = next(iter(unknown.values()))[0]
    wrong.append(
      f"{names}{more}: of no class of the classes file ({', '.join(table.names)}), the first in "
      f"{first.picture} of {first.where}; add or rename the class, or give --shapes_unknown ignore "
      "(no class is there) or --shapes_unknown leave (as if nobody had drawn them)"
    )
  if options.unknown == "ignore":
    values |= dict.fromkeys(unknown, IGNORE)
  if annotations.kind == yolo.KIND:
    wrong += _shifted(annotations, table)
  return values


def _shifted(annotations: Annotations, table: ClassTable) -> list[str]:
  """YOLO's numbers count the classes without a background."""
  first = table.names[0].lower()
  if first not in _BACKGROUNDS or table.source_ids[0] != 0:
    return []
  count = sum(shape.label == 0 for _, shape in _all(annotations))
  return count * [""] and [
    f"{counted(count, 'shape has', 'shapes have')} the number 0, which is {table.names[0]!r} in "
    "the classes file; YOLO "
    "counts classes without one: give its data.yaml as --classes, and --shapes_rest background"
  ]


def _undrawn(annotations: Annotations, options: ShapeOptions) -> list[str]:
  """Shapes that have no area."""
  lines: dict[str, list[Annotated]] = collections.defaultdict(list)
  others: dict[str, list[Annotated]] = collections.defaultdict(list)
  for annotated, shape in _all(annotations):
    if shape.area is None:
      others[shape.kind].append(annotated)
    elif isinstance(shape.area, Line) and options.line_width is None:
      lines[shape.kind].append(annotated)
  wrong = []
  if lines:
    wrong.append(
      f"{_counted(lines)} have no area; give --shapes_line_width PIXELS (labelme's own masks have "
      "10), or 0 to leave them out"
    )
  if others:
    wrong.append(
      f"{_counted(others)} are no masks; draw polygons or masks where they were made, or remove "
      "them"
    )
  return wrong


def _counted(kinds: dict[str, list[Annotated]]) -> str:
  counts = ", ".join(f"{len(of)} {_many(kind, len(of))}" for kind, of in kinds.items())
  first = next(iter(kinds.values()))[0]
  return f"{counts} (the first in {first.picture} of {first.where})"


def _upright(annotations: Annotations) -> int:
  """How many polygons there are, if all are rectangles without a turn; 0 if others are, or few."""
  polygons = [shape.area for _, shape in _all(annotations) if shape.kind == "polygon"]
  if len(polygons) < _FEW or not all(isinstance(area, Rings) for area in polygons):
    return 0
  rings = (ring for area in polygons for part in area.parts for ring in part)
  return len(polygons) if all(_is_upright(ring) for ring in rings) else 0


def _is_upright(ring: np.ndarray) -> bool:
  """Whether points [n, 2] are the four corners of a rectangle without a turn."""
  return len(ring) in (4, 5) and all(len(set(side)) == 2 for side in ring.T.tolist())


def _scaled(annotations: Annotations) -> list[str]:
  """Polygons all of whose corners are shares of the sides, where pixels are expected."""
  areas: Iterable[Rings] = [
    shape.area for _, shape in _all(annotations) if isinstance(shape.area, Rings)
  ]
  areas = [area for area in areas if not area.relative]
  if not areas or any(r.max() > 1 for area in areas for part in area.parts for r in part):
    return []
  return [
    f"all {len(areas)} polygons lie within the first pixel, as if their coordinates were shares of "
    "width and height; export them in pixels"
  ]
