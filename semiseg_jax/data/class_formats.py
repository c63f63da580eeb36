"""The classes files that tools write, as entries of id, name and maybe color."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from semiseg_jax.labels import IGNORE

ACCEPTED = (
  "a name a line, 'name r g b', 'id: name', CVAT's labelmap.txt, labelme's labels.txt, a table "
  "with the heading 'name,r,g,b' or 'Pixel Value, Class'; or JSON of 'classes', 'categories', "
  "'id2label' or a list of names"
)
Entry = dict[str, Any]
_CVAT = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")
_ROW = re.compile(r"([^,]+?)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)")
_NUMBERED = re.compile(r"(\d+)(?:\s*[:=,;]\s*|\s+)([^\d\s].*)")
_NO_NAME = re.compile(
  r"[{}\[\]<>=\"\x00-\x1f]|[:;|].*[:;|]|^\d+(\s+\d+)+$|^---|^names:|[:,]$|[:=,;]\s*\d+$"
)


def from_text(text: str, first_id: int) -> tuple[list[Entry], bool]:
  """The entries of a text file, and whether their ids only follow from the order of its lines.

  Raises:
    ValueError: a line that is obviously not a name.
  """
  lines = [line.strip() for line in text.splitlines()]
  lines = [line for line in lines if line and not line.startswith("#")]
  for read in (_table, _numbered):
    found = read(lines)
    if found:
      return found, False
  named = _matched(_CVAT, lines, lambda m: (m[1].strip(), m[2] and m[2].split(",")))
  named = named or _matched(_ROW, lines, lambda m: (m[1], m.groups()[1:]))
  if not named:
    named = [_name_and_color(line) for line in lines]
  entries = []
  if named and named[0][0] == "__ignore__":  # of labelme, whose PNG files have 255 there
    entries, named = [{"id": IGNORE, "name": "__ignore__", "ignored": True}], named[1:]
  entries += [
    {"id": number, "name": name} | ({"rgb": color} if color else {})
    for number, (name, color) in enumerate(named, first_id)
  ]
  return entries, True


def _matched(
  pattern: re.Pattern[str], lines: Sequence[str], read: Callable[[re.Match[str]], Any]
) -> list[Any]:
  """What each line is read as; nothing unless all of them match."""
  matches = [pattern.fullmatch(line) for line in lines]
  return [read(match) for match in matches] if all(matches) else []


def _name_and_color(line: str) -> tuple[str, list[str] | None]:
  words = line.split()
  if len(words) > 3 and all(word.isdigit() for word in words[-3:]):
    return " ".join(words[:-3]), words[-3:]
  if _NO_NAME.search(line):
    raise ValueError(f"{line[:60]!r} is no name of a class")
  return line, None


def _numbered(lines: Sequence[str]) -> list[Entry]:
  matches = _matched(_NUMBERED, lines, lambda m: (int(m[1]), m[2].strip(" ,'\"")))
  named = [(id_, *_name_and_color(text)) for id_, text in matches]
  return [
    {"id": id_, "name": name} | ({"rgb": color} if color else {}) for id_, name, color in named
  ]


def _table(lines: Sequence[str]) -> list[Entry]:
  """Rows below a heading: name and r, g, b, or Roboflow's pixel value and class."""
  rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
  head = [cell.lower() for cell in rows[0]] if rows else []
  if "pixel value" in head and "class" in head:
    value, name = head.index("pixel value"), head.index("class")
    return [{"id": int(row[value]), "name": row[name]} for row in rows[1:]]
  if {"r", "g", "b"} <= set(head):
    at = [head.index(color) for color in "rgb"]
    name = next(i for i in range(len(head)) if i not in at)
    return [
      {"id": number, "name": row[name], "rgb": [row[i] for i in at]}
      for number, row in enumerate(rows[1:])
    ]
  return []


def from_json(fields: Any) -> Mapping[str, Any]:
  """Fields with 'classes', a list of entries, of any JSON that names classes.

  Raises:
    KeyError, TypeError, ValueError: there are none.
  """
  if isinstance(fields, list):
    return {"classes": _entries(fields)}
  if "classes" in fields:
    return dict(fields) | {"classes": _entries(fields["classes"])}
  if "categories" in fields:  # COCO
    return {"classes": _entries(fields["categories"])}
  for key in ("stuff_classes", "thing_classes", "names"):  # detectron2, YOLO
    if key in fields:
      return {"classes": _entries(fields[key])}
  names = fields.get("id2label", fields)  # Hugging Face
  if not names or not all(str(key).isdigit() for key in names):
    raise KeyError("classes")
  return {"classes": _entries(names)}


def _entries(classes: Iterable[Any] | Mapping[str, str]) -> list[Entry]:
  if isinstance(classes, Mapping):
    return [{"id": int(key), "name": name} for key, name in classes.items()]
  classes = list(classes)
  if all(isinstance(name, str) for name in classes):
    return [{"id": number, "name": name} for number, name in enumerate(classes)]
  return [{"rgb": c["color"], **c} if "color" in c and "rgb" not in c else c for c in classes]
