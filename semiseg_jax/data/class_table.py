"""The classes file of a data set: names, colors and the ids that labels use."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE

_MAX_ID = 65535


@dataclasses.dataclass(frozen=True)
class ClassTable:
  """K classes in training order, and how source labels become 0..K-1 and IGNORE.

  Attributes:
    names, colors: per class; colors are (r, g, b).
    source_ids: per class, its id in the source's label files.
    ignore_id: the id of pixels without a class there.
    palette: source color -> training id, empty when the file gives no colors.
  """

  names: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]
  source_ids: tuple[int, ...]
  ignore_id: int
  palette: dict[tuple[int, int, int], int]

  def convert(self, label: np.ndarray, where: str) -> np.ndarray:
    """Source ids [H, W] or colors [H, W, 3] -> uint8 [H, W]; DataError names unknown values."""
    return self._from_colors(label, where) if label.ndim == 3 else self._from_ids(label, where)

  def _from_ids(self, label: np.ndarray, where: str) -> np.ndarray:
    table = np.full(_MAX_ID + 2, -1, np.int16)  # the last entry is for all ids out of range
    table[list(self.source_ids)] = range(len(self.source_ids))
    table[self.ignore_id] = IGNORE
    inside = label
    if label.dtype not in (np.uint8, np.uint16):
      wide = label.astype(np.int64)
      inside = np.where((wide < 0) | (wide > _MAX_ID), _MAX_ID + 1, wide)
    found = table[inside]
    if found.min() < 0:
      values, counts = np.unique(label[found < 0], return_counts=True)
      raise DataError(
        f"{where}: {_listed(values.tolist(), counts)} outside the classes (ids "
        f"{_ranges(self.source_ids)}, ignored {self.ignore_id}); correct the label, "
        "add the class, or set --ignore_id"
      )
    return found.astype(np.uint8)

  def _from_colors(self, label: np.ndarray, where: str) -> np.ndarray:
    packed = (label.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(2, dtype=np.uint32)
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
    wrong = [i for i, color in enumerate(colors) if color not in self.palette]
    if wrong:
      raise DataError(
        f"{where}: {_listed([colors[i] for i in wrong], counts[wrong])} not among "
        "the colors of the classes file; correct the label or add the color"
      )
    ids = np.array([self.palette[color] for color in colors], np.uint8)
    return ids[inverse.reshape(packed.shape)]


def read_classes(file: str | os.PathLike, ignore_id: int | None = None) -> ClassTable:
  """Reads a classes file; `ignore_id` overrides the file's own (text: 255).

  JSON: {"classes": [{"id": 0, "name": "sky", "rgb": [128, 128, 128]}, ...], "ignore_id": 11}, the
  colors optional. Text: a name per line, optionally followed by r g b; the id is the line's
  number from 0, '#' begins a comment line. The entry of the ignored id is not a class; it only
  gives a color to be ignored. Without colors a palette is chosen.

  Raises:
    DataError: naming the file: unreadable, no classes, repeated ids, names or colors.
  """
  path = pathlib.Path(file)
  try:
    text = path.read_text(encoding="utf-8-sig")
    fields = json.loads(text) if path.suffix.lower() == ".json" else _parse_text(text)
    entries = [_Entry.parse(entry) for entry in fields["classes"]]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DataError(
      f"classes file {path} cannot be read ({type(error).__name__}: {error}); it is JSON with "
      "'classes' of 'id', 'name' and 'rgb', or text with a name per line"
    ) from error
  ignored = fields.get("ignore_id", IGNORE) if ignore_id is None else ignore_id
  classes = [entry for entry in entries if entry.id != ignored]
  _check(path, entries, classes, ignored, fields.get("num_classes"))
  palette = {e.rgb: IGNORE for e in entries if e.id == ignored and e.rgb}
  palette |= {e.rgb: index for index, e in enumerate(classes) if e.rgb}
  colors = tuple(e.rgb or default_color(index) for index, e in enumerate(classes))
  return ClassTable(
    tuple(e.name for e in classes), colors, tuple(e.id for e in classes), ignored, palette
  )


def default_color(index: int) -> tuple[int, int, int]:
  """A color per class: PASCAL VOC's palette from its second entry on, so that none is black."""
  red, green, blue = 0, 0, 0
  for shift in range(8):
    bits = (index + 1) >> (3 * shift)
    red |= (bits & 1) << (7 - shift)
    green |= (bits >> 1 & 1) << (7 - shift)
    blue |= (bits >> 2 & 1) << (7 - shift)
  return red, green, blue


@dataclasses.dataclass(frozen=True)
class _Entry:
  id: int
  name: str
  rgb: tuple[int, int, int] | None

  @classmethod
  def parse(cls, fields: dict[str, Any]) -> "_Entry":
    rgb = fields["rgb"] if "rgb" in fields else None
    if rgb is not None and (len(rgb) != 3 or not all(0 <= int(v) <= 255 for v in rgb)):
      raise ValueError(f"color {rgb} of class {fields['name']!r}")
    if not 0 <= int(fields["id"]) <= _MAX_ID:
      raise ValueError(f"id {fields['id']} of class {fields['name']!r}")
    return cls(int(fields["id"]), str(fields["name"]), rgb and tuple(int(v) for v in rgb))


def _parse_text(text: str) -> dict[str, Any]:
  lines = [line.strip() for line in text.splitlines()]
  lines = [line for line in lines if line and not line.startswith("#")]
  entries = []
  for number, line in enumerate(lines):
    words = line.split()
    if len(words) > 3 and all(word.isdigit() for word in words[-3:]):
      entries.append({"id": number, "name": " ".join(words[:-3]), "rgb": words[-3:]})
    else:
      entries.append({"id": number, "name": line})
  return {"classes": entries}


def _check(
  path: pathlib.Path, entries: list[_Entry], classes: list[_Entry], ignored: int, stated: int | None
) -> None:
  if not 1 <= len(classes) <= IGNORE:
    raise DataError(f"classes file {path}: {len(classes)} classes; give 1 to {IGNORE}")
  if stated not in (None, len(classes)):
    raise DataError(
      f"classes file {path}: says num_classes {stated} and lists {len(classes)} "
      f"besides the ignored id {ignored}; correct it"
    )
  if not 0 <= ignored <= _MAX_ID:
    raise DataError(f"ignore id {ignored}: give 0 to {_MAX_ID}")
  for what in ("id", "name", "rgb"):
    values = [getattr(entry, what) for entry in entries if getattr(entry, what) is not None]
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
      raise DataError(f"classes file {path}: {what} {twice[0]} stands for two classes; correct it")
  if len({entry.rgb is None for entry in classes}) > 1:
    raise DataError(
      f"classes file {path}: some classes have colors and some none; give all or no colors"
    )


def _listed(values: list[Any], counts: np.ndarray) -> str:
  shown = ", ".join(f"{value} ({count} pixels)" for value, count in zip(values[:8], counts))
  return shown + (f" and {len(values) - 8} more values" if len(values) > 8 else "")


def _ranges(ids: tuple[int, ...]) -> str:
  return f"{min(ids)} to {max(ids)}" if len(ids) == max(ids) - min(ids) + 1 else str(sorted(ids))
