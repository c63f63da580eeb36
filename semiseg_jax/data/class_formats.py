"""The classes files that tools write, as entries of id, name and maybe color."""

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from semiseg_jax.labels import IGNORE

ACCEPTED = (
  "a name a line, 'name r g b', 'id: name', CVAT's labelmap.txt, labelme's labels.txt, a table "
  "with a heading such as 'name,r,g,b' or 'Pixel Value, Class'; JSON of 'classes', 'categories', "
  "'id2label' or a list of names; YAML of 'names' (data.yaml); or CVAT's XML"
)
Entry = dict[str, Any]
_CVAT = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")
_ROW = re.compile(r"([^,]+?)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)")
_NUMBERED = re.compile(r"(\d+)(?:\s*[:=,;]\s*|\s+)([^\d\s].*)")
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_NAME_AND_NUMBER = re.compile(r"(.*\D)\s+(\d+)")
_COLUMNS = {
  "id": ("id", "idx", "index", "pixel value", "value", "class id", "label id", "class index"),
  "name": ("name", "class name", "label name", "class", "label", "category", "title"),
  "color": ("color", "colour", "rgb", "hex"),
  "r": ("r", "red"),
  "g": ("g", "green"),
  "b": ("b", "blue"),
}
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
    _check_numbers(named)
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
  if len(words) > 1 and _HEX.fullmatch(words[-1]):
    return " ".join(words[:-1]).rstrip(" ,:;"), _rgb(words[-1])
  if _NO_NAME.search(line):
    raise ValueError(f"{line[:60]!r} is no name of a class")
  return line, None


def _numbered(lines: Sequence[str]) -> list[Entry]:
  matches = _matched(_NUMBERED, lines, lambda m: (int(m[1]), m[2].strip(" ,'\"")))
  named = [(id_, *_name_and_color(text)) for id_, text in matches]
  return [
    {"id": id_, "name": name} | ({"rgb": color} if color else {}) for id_, name, color in named
  ]


def _check_numbers(named: Sequence[tuple[str, list[Any] | None]]) -> None:
  """ValueError when each line ends in a number of its own that may be its id."""
  matches = [_NAME_AND_NUMBER.fullmatch(name) for name, color in named if color is None]
  if len(matches) < 2 or not all(matches):
    return
  if all(len({match[part] for match in matches}) == len(matches) for part in (1, 2)):
    whole, name, number = matches[0].group(0, 1, 2)
    raise ValueError(
      f"{whole!r} is no name of a class but two words; write '{number}: {name}' if the number is "
      f"its id, and '{name}_{number}' if it is part of the name"
    )


def _table(lines: Sequence[str]) -> list[Entry]:
  """Rows below a heading that has names and ids or colors, such as Roboflow's _classes.csv."""
  for delimiter in ",;\t":
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    at = _columns(rows[0]) if rows else {}
    if "name" in at and len(at) > 1:
      return [_row(number, row, at) for number, row in enumerate(rows[1:])]
  return []


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
  return at


def _row(number: int, row: Sequence[str], at: Mapping[str, int]) -> Entry:
  if len(row) <= max(at.values()):
    raise ValueError(f"{','.join(row)[:60]!r} has fewer columns than the heading")
  entry: Entry = {"id": int(row[at["id"]]) if "id" in at else number, "name": row[at["name"]]}
  if {"r", "g", "b"} <= set(at):
    entry["rgb"] = [row[at[color]] for color in "rgb"]
  elif "color" in at:
    entry["rgb"] = _rgb(row[at["color"]])
  return entry


def _rgb(color: Any) -> Any:
  """[r, g, b] of '#rrggbb' or a text of three numbers; anything else as it is."""
  if not isinstance(color, str):
    return color
  hexadecimal = _HEX.fullmatch(color.strip())
  return list(bytes.fromhex(hexadecimal[1])) if hexadecimal else re.findall(r"\d+", color)


def from_yaml(text: str) -> Mapping[str, Any]:
  """As `from_json`, of a data.yaml of Ultralytics or Roboflow, or another YAML of this content."""
  try:
    return from_json(yaml.safe_load(text))
  except yaml.YAMLError as error:
    raise ValueError(f"no YAML: {error}") from error


def from_xml(text: str) -> Mapping[str, Any]:
  """As `from_json`, of the XML that CVAT writes: the labels of its task."""
  try:
    labels = ET.fromstring(text).find(".//labels")
  except ET.ParseError as error:
    raise ValueError(f"no XML: {error}") from error
  if labels is None:
    raise KeyError("labels")
  entries = []
  for number, label in enumerate(labels.findall("label")):
    entry = {"id": number, "name": label.findtext("name")}
    color = label.findtext("color")
    entries.append(entry | ({"rgb": _rgb(color)} if color else {}))
  return {"classes": entries}


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
      return {"classes": _entries(fields[key]), "num_classes": fields.get("nc")}
  names = fields.get("id2label", fields)  # Hugging Face
  if not names or not all(str(key).isdigit() for key in names):
    raise KeyError("classes")
  return {"classes": _entries(names)}


def _entries(classes: Iterable[Any] | Mapping[Any, Any]) -> list[Entry]:
  if isinstance(classes, Mapping) and "label" in classes:  # Datumaro
    classes = [label["name"] for label in classes["label"]["labels"]]
  if isinstance(classes, Mapping):
    return [{"id": int(key), "name": _text(name)} for key, name in classes.items()]
  return [_entry(number, fields) for number, fields in enumerate(classes)]


def _entry(number: int, fields: Any) -> Entry:
  if not isinstance(fields, Mapping):
    return {"id": number, "name": _text(fields)}
  if "title" in fields and "name" not in fields:  # Supervisely, whose ids are not those of masks
    fields = {"id": number, "name": fields["title"], "color": fields["color"]}
  return {"rgb": _rgb(fields["color"]), **fields} if "color" in fields else dict(fields)


def _text(name: Any) -> str:
  if not isinstance(name, str):
    raise ValueError(f"{name!r} is no name of a class; put it in quotes")
  return name
