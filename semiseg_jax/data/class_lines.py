"""Lines of a text file of classes: where in a line the id, the name and the color stand.

A reader takes all lines, and has rows only if each line is of its layout.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]  # 'name', and maybe 'id' and 'color'
Reader = Callable[[Sequence[str]], list[Row]]

_GAP = r"[\s,;]+"
_N = r"(\d{1,3})"
_RGB = rf"[(\[]?\s*{_N}{_GAP}{_N}{_GAP}{_N}\s*[)\]]?"
HEX = r"[(\[]?(#[0-9a-fA-F]{6}(?:[fF]{2})?)[)\]]?"
_BETWEEN = r"(?:\s*[:=;,|]\s*|\s+)"
_LETTER = r"(?=[\d\s:=;,|]*[^\d\s:=;,|])"  # more than numbers follow
_END = r"(?<![\s,:=;|(\[])"  # of a name
_NAME = r"([^\d\s].*)"
_NUMBERED = re.compile(
  r"[(\[]?(?:(?:class|label|id|index)[\s_#]*(?=\d+\s*[:=]))?(-?\d{1,9})"
  r"(?:\s*(?:[:=,;|]|[-=]>)\s*|[.)\]]\s*|\s+[-–—]\s+|\s+)" + _NAME,
  re.IGNORECASE,
)


def matched(
  pattern: re.Pattern[str], lines: Sequence[str], read: Callable[[re.Match[str]], Any]
) -> list[Any]:
  """What each line is read as; nothing unless all of them match."""
  rows = []
  for line in lines:
    match = pattern.fullmatch(line)
    if match is None:
      return []
    rows.append(read(match))
  return rows


def _reader(pattern: str, *keys: str) -> Reader:
  """Of a pattern whose groups the keys name, 'color' being the name of three."""
  compiled = re.compile(pattern, re.IGNORECASE)

  def read(match: re.Match[str]) -> Row:
    groups, row = list(match.groups()), {}
    for key in keys:
      row[key] = [groups.pop(0) for _ in range(3)] if key == "color" else groups.pop(0)
    return row | {"name": row["name"].strip(" '\"")}

  return lambda lines: matched(compiled, lines, read)


_cvat = _reader(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*", "name", "hex")
_itk_snap = _reader(
  rf'(\d+)\s+{_N}\s+{_N}\s+{_N}\s+[\d.]+\s+\d\s+\d\s+"(.*)"', "id", "color", "name"
)
_color_first = _reader(rf"(?:rgb)?{_RGB}[\s,;:=-]+{_NAME}", "color", "name")
_hex_first = _reader(rf"{HEX}[\s,;:=-]+(\S.*)", "hex", "name")
_alpha_inside = _reader(rf"{_N}{_GAP}{_N}{_GAP}{_N}{_GAP}(\d+){_GAP}{_NAME}", "color", "a", "name")
_id_and_color = _reader(rf"(\d+){_GAP}{_N}{_GAP}{_N}{_GAP}{_N}{_GAP}{_NAME}", "id", "color", "name")
_alpha_last = _reader(rf"(.*\D){_GAP}{_N}{_GAP}{_N}{_GAP}{_N}{_GAP}{_N}", "name", "color", "a")
_number_in_name = _reader(rf"(.*\D{_GAP}\d+){_GAP}{_N}{_GAP}{_N}{_GAP}{_N}", "name", "color")
_words = _reader(rf"({_LETTER}.*?{_END})(?:\s+|\s*,\s*){_N}{_GAP}{_N}{_GAP}{_N}", "name", "color")
_color_last = _reader(
  rf"({_LETTER}.*?{_END})(?:{_BETWEEN}(?:rgb)?|rgb|(?=[(\[])){_RGB}", "name", "color"
)
_hex_last = _reader(rf"(.*?[^\s:=;,|]){_BETWEEN}{HEX}", "name", "hex")


def by_layout(lines: Sequence[str]) -> tuple[list[Row], str]:
  """The rows of lines that have more than a name, and what to call an unusual layout.

  Raises:
    ValueError: lines that may be of two layouts.
  """
  if not lines:
    return [], ""
  ids = matched(_NUMBERED, lines, lambda m: (m[1], m[2].strip(" ,'\"")))
  for form, read in _WHOLE:
    if rows := read(lines):
      return [_with_color(row) for row in rows], form
  if not ids:
    rows, form = _named(lines)
    if "color" in rows[0]:
      return rows, form
    _check_ids(lines)
    return [], ""
  rows, form = _named([text for _, text in ids])
  if not form and all(re.match(r"\(?\d+[.)]", line) for line in lines):
    form = "an id and a name"
  return [{"id": id_} | row for (id_, _), row in zip(ids, rows)], form


def _named(lines: Sequence[str]) -> tuple[list[Row], str]:
  """As `by_layout`, of what stands behind ids."""
  for form, read in _TAILS:
    if rows := read(lines):
      numbered = [row["name"] for row in rows if re.search(r"[\s,;]\d+$", row["name"])]
      if 0 < len(numbered) < len(rows):
        form = f"names and r, g, b, with a number in the name {numbered[0]!r}"
      return [_with_color(row) for row in rows], form
  _check_mixed(lines)
  return [{"name": line} for line in lines], ""


def _check_mixed(lines: Sequence[str]) -> None:
  colored = [line for line in lines if _words([line]) or _color_last([line]) or _hex_last([line])]
  if 0 < len(colored) < len(lines):
    raise ValueError(
      f"some classes have colors and some none ({colored[0][:60]!r}); give all or no colors"
    )


def _check_ids(lines: Sequence[str]) -> None:
  """ValueError when most lines begin with a number of their own."""
  ids = {line: match[1] for line in lines if (match := _NUMBERED.fullmatch(line))}
  if 1 < len(set(ids.values())) == len(ids) > len(lines) / 2:
    other = next(line for line in lines if line not in ids)
    raise ValueError(f"{other[:60]!r} has no id, as most lines have; give all or no ids")


def _with_color(row: Row) -> Row:
  """The row with 'color' for what its layout calls it."""
  color = row.get("color", row.get("hex"))
  kept = {key: row[key] for key in ("id", "name") if key in row}
  return kept | ({} if color is None else {"color": color})


def _four_first(lines: Sequence[str]) -> list[Row]:
  """r g b, an opaque alpha and a name, or id r g b and a name."""
  with_alpha = _alpha_inside(lines)
  if any(row["a"] != "255" for row in with_alpha):
    with_alpha = []
  return _only_one(lines, with_alpha, _id_and_color(lines))


def _four_last(lines: Sequence[str]) -> list[Row]:
  """A name, r g b and an alpha; nothing if names may end in a number."""
  with_alpha = _alpha_last(lines)
  if len({row["name"] for row in with_alpha}) < len(lines):
    return []
  if any(row["a"] not in ("0", "255") for row in with_alpha):
    raise _four_numbers(lines)
  return _only_one(lines, with_alpha)


def _only_one(lines: Sequence[str], *readings: list[Row]) -> list[Row]:
  """The one reading in which no two classes are equal; ValueError when there are more or none."""
  possible = [rows for rows in readings if rows and _are_distinct(rows)]
  if any(readings) and len(possible) != 1:
    raise _four_numbers(lines)
  return possible[0] if possible else []


def _four_numbers(lines: Sequence[str]) -> ValueError:
  return ValueError(
    f"{lines[0][:60]!r} has four numbers, which may be an id, a color and an alpha; give a heading "
    "such as 'id,name,r,g,b'"
  )


def _are_distinct(rows: Sequence[Row]) -> bool:
  for key in rows[0].keys() - {"a"}:
    if len({str(row[key]) for row in rows}) < len(rows):
      return False
  return True


# What to call an unusual layout, and its reader: of lines with all they have, and of names with
# what follows them.
_WHOLE: tuple[tuple[str, Reader], ...] = (
  ("", _cvat),
  ("ITK-SNAP's: id, r, g, b, three numbers and a name", _itk_snap),
  ("r, g, b and a name", _color_first),
  ("a color and a name", _hex_first),
  ("four numbers and a name", _four_first),
)
_TAILS: tuple[tuple[str, Reader], ...] = (
  ("a name, r, g, b and an alpha", _four_last),
  ("", _number_in_name),
  ("", _words),
  ("a name and r, g, b", _color_last),
  ("", _hex_last),
)
