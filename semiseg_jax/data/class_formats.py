"""Text files of classes, a class a line, in the forms that people and tools write."""

import csv
import dataclasses
import re
import string
from collections.abc import Mapping, Sequence

from semiseg_jax.data import class_lines
from semiseg_jax.data.class_lines import Row
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

ACCEPTED = (
  "a name a line, 'name r g b', 'id: name', CVAT's labelmap.txt, labelme's labels.txt, a table "
  "with a heading such as 'name,r,g,b' or 'Pixel Value, Class'; JSON of 'classes', 'categories', "
  "'id2label' or a list of names; YAML of 'names' (data.yaml); or CVAT's XML"
)
_MARKED = re.compile(r"[-*+•·‣–—>]\s+(\S.*)")
_LETTERED = re.compile(r"\(?([A-Za-z])[.)]\s+(\S.*)")
_COMMENT = re.compile(r"\s+(#|//)\s.*$")
_QUOTED = re.compile(r"(['\"])([^'\"]+)\1[,;]?")
_NAME_AND_NUMBER = re.compile(r"(.*[^\d\s(\[])\s+[(\[]?(-?\d+)[)\]]?")
_NAME_AND_ID = re.compile(r"([^\d:=,;]+?)\s*[:=,;\t]\s*(-?\d+)")
_HEADING = re.compile(r"((class|label|category)[\s_-]?)?(names?|ids?)|class(es)?|labels?", re.I)
_LONGEST, _LONGEST_ROW = 200, 10_000  # characters of a line, and of one below a heading
_OF = ("class", "label", "category")  # what a column's name may begin with
_COLUMNS = {
  "id": (
    *("id", "idx", "index", "pixel value", "value", "gray value", "grayscale value"),
    *(f"{of} {word}" for of in _OF for word in ("id", "idx", "index", "value", "number", "no")),
  ),
  "name": ("name", *(f"{of} name" for of in _OF), *_OF, "title"),
  "color": ("color", "colour", "rgb", "hex"),
  "r": ("r", "red"),
  "g": ("g", "green"),
  "b": ("b", "blue"),
}
_NUMBER = r"[-+]?\d*\.?\d+"
_NO_NAME = re.compile(
  r"[{}\[\]<>=\"\x00-\x1f]|[:;|].*[:;|]|^---|[:,;]$|[:=,;]\s*\d+$|^[#:,;]"
  r"|^-?\d+\s*[:=,;]\s|[,;]\s*\d+\s*[,;]\s*\d|[\s,:]#[0-9a-f]{3,8}$"
  r"|^(names?|ids?|labels?|class(es)?|colou?rs?)\s*:|^[-*+•·‣–—]\s"
  rf"|^\(?{_NUMBER}([\s,;]+{_NUMBER}){{2}}|^\d+(\s+\d+)+$"  # beginning or ending in numbers
  rf"|[\s,;(]{_NUMBER}([\s,;]+{_NUMBER})+\s*\)?$",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Listing:
  """What a text file lists.

  Attributes:
    rows: of 'id', 'name' and maybe 'color'.
    counted: whether ids only follow from the order of the lines.
    notes: what to say of how the lines are read, where that is not the usual way.
  """

  rows: list[Row]
  counted: bool
  notes: tuple[str, ...] = ()


def from_text(text: str, first_id: int) -> Listing:
  """Reads the classes of a text file.

  Raises:
    ValueError: a line that is obviously not a name, or that may be two things.
  """
  lines, notes = _plain(text)
  _check_length(lines, _LONGEST_ROW)
  rows = _table(lines)
  if not rows:
    _check_length(lines, _LONGEST)
    rows, form = class_lines.by_layout(lines)
    if form:
      notes.append(f"its lines are read as {form}")
    for row in rows:
      _check_name(row["name"])
  if not rows:
    for line in lines:
      _check_name(line)
    rows = [{"name": line} for line in lines]
    _check_heading(lines)
  if rows and "id" in rows[0]:
    return Listing(rows, False, tuple(notes))
  _check_numbers([row["name"] for row in rows])
  entries: list[Row] = []
  if rows and rows[0]["name"] == "__ignore__":  # of labelme, whose PNG files have 255 there
    entries, rows = [rows[0] | {"id": IGNORE, "ignored": True}], rows[1:]
  entries += [row | {"id": number} for number, row in enumerate(rows, first_id)]
  return Listing(entries, True, tuple(notes))


def _plain(text: str) -> tuple[list[str], list[str]]:
  """The lines without comments and without what makes them a list, and what was left out."""
  notes = []
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  color = re.compile(rf"{class_lines.HEX}[\s,;:=]")  # which begins as a comment does
  lines = [line for line in lines if not line.startswith("#") or color.match(line)]
  bare = [_COMMENT.sub("", line) for line in lines]
  if bare != lines:
    notes.append("what follows '#' or '//' in a line is left out")
    lines = bare
  if (lettered := class_lines.matched(_LETTERED, lines, lambda m: m.groups())) and len(lines) > 1:
    if [letter.lower() for letter, _ in lettered] == [*string.ascii_lowercase[: len(lines)]]:
      notes.append(f"the letters before its names ('{lettered[0][0]}') are left out")
      lines = [name for _, name in lettered]
  if marked := class_lines.matched(_MARKED, lines, lambda m: m[1]):
    notes.append(f"the marks before its names ({lines[0][0]!r}) are left out")
    lines = marked
  if len(lines) == 1:
    lines = [re.sub(r"^\((.*)\)$", r"\1", lines[0])]
  if len(lines) == 1 and len(parts := _parts(lines[0])) > 1:
    notes.append(f"its one line is read as {counted(len(parts), 'class', 'classes')}")
    lines = parts
  if quoted := class_lines.matched(_QUOTED, lines, lambda m: m[2]):
    notes.append("the quotes around its names are left out")
    lines = quoted
  if len(lines) > 1 and all(line[-1] in ",;" for line in lines[:-1]):
    notes.append(f"{lines[0][-1]!r} after its names is left out")
    lines = [line.rstrip(" ,;") for line in lines]
  return [line for line in lines if line], notes


def _parts(line: str) -> list[str]:
  """What separators divide a line into; nothing when a part is missing or a number."""
  for separator in ",;|\t":
    parts = [part.strip() for part in line.strip(f"{separator} ").split(separator)]
    if len(parts) > 1 and all(re.search(r"[^\d\s.()\[\]]", part) for part in parts):
      return parts
  return []


def _check_length(lines: Sequence[str], longest: int) -> None:
  for line in lines:
    if len(line) > longest:
      raise ValueError(f"{line[:60]!r}... is no name of a class")


def _check_name(line: str) -> None:
  if match := _NAME_AND_ID.fullmatch(line):
    name, number = match.groups()
    raise ValueError(
      f"{line!r} is no name of a class; if {number} is its id, write '{number}: {name}'"
    )
  if _NO_NAME.search(line):
    raise ValueError(f"{line[:60]!r} is no name of a class")


def _check_heading(names: Sequence[str]) -> None:
  """ValueError when the first name heads a column, or when all are numbers but not their own."""
  if len(names) > 1 and _HEADING.fullmatch(names[0]):
    raise ValueError(f"{names[0]!r} is no name of a class but a heading; remove this line")
  if all(name.isdigit() for name in names) and names != [*map(str, range(len(names)))]:
    name = names[0]
    raise ValueError(f"{name!r} is no name of a class; if it is an id, write '{name}: name'")


def _check_numbers(names: Sequence[str]) -> None:
  """ValueError when each name ends in a number of its own that may be its id."""
  matches = [_NAME_AND_NUMBER.fullmatch(name) for name in names]
  if len(matches) < 2 or not all(matches):
    return
  if all(len({match[part] for match in matches}) == len(matches) for part in (1, 2)):
    whole, name, number = matches[0].group(0, 1, 2)
    raise ValueError(
      f"{whole!r} is no name of a class but two words; write '{number}: {name}' if the number is "
      f"its id, and '{name}_{number}' if it is part of the name"
    )


def _table(lines: Sequence[str]) -> list[Row]:
  """Rows below a heading that has names and ids or colors, such as Roboflow's _classes.csv."""
  for delimiter in ",;\t":
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    at = _columns(rows[0]) if rows else {}
    if "name" in at and len(at) > 1:
      return [_row(row, at, delimiter, len(rows[0])) for row in rows[1:]]
  rows = [line.split() for line in lines]
  at = _columns(rows[0]) if rows else {}
  if "name" not in at or len(at) < 2 or len(at) < len(rows[0]):
    return []
  return [_row(row, at, " ", len(rows[0])) for row in rows[1:]]


def _columns(head: Sequence[str]) -> dict[str, int]:
  """Where what stands; of names and colors the only other column is that of the names."""
  cells = [re.sub(r"[\s_-]+", " ", cell.lower()) for cell in head]
  at = {}
  for key, words in _COLUMNS.items():
    word = next((word for word in words if word in cells), None)
    if word is not None:
      at[key] = cells.index(word)
  others = [i for i in range(len(cells)) if i not in at.values()]
  if "name" not in at and {"r", "g", "b"} <= set(at) and len(others) == 1:
    at["name"] = others[0]
  if 0 < len({"r", "g", "b"} & set(at)) < 3 and "name" in at:
    raise ValueError(f"{', '.join(head)[:60]!r} does not head all of r, g and b")
  return at


def _row(row: Sequence[str], at: Mapping[str, int], delimiter: str, columns: int) -> Row:
  if len(row) <= max(at.values()):
    raise ValueError(f"{delimiter.join(row)[:60]!r} has fewer columns than the heading")
  if any(row[columns:]):
    mend = (
      f"put names with a {delimiter!r} into quotes" if delimiter != " " else "separate by commas"
    )
    raise ValueError(f"{delimiter.join(row)[:60]!r} has more columns than the heading; {mend}")
  entry: Row = {"name": row[at["name"]]}
  if "id" in at:
    entry["id"] = row[at["id"]]
  if {"r", "g", "b"} <= set(at):
    entry["color"] = [row[at[color]] for color in "rgb"]
  elif "color" in at:
    entry["color"] = row[at["color"]]
  return entry
