"""The classes file of a data set: names, colors and the ids that labels use."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semiseg_jax.data import class_documents, class_entries, class_formats, text_files
from semiseg_jax.data.class_entries import Entry
from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

_MAX_ID = 65535
_READERS = {
  ".json": class_documents.from_json,
  ".yaml": class_documents.from_yaml,
  ".yml": class_documents.from_yaml,
  ".xml": class_documents.from_xml,
}
_SHOWN = 4  # classes that a note shows
# In the names of entries that are there for the ignored id.
_IGNORED_WORDS = frozenset(
  "void ignore ignored unlabeled unlabelled unknown undefined none nodata border care".split()
)
_VOIDS = _IGNORED_WORDS - {"border", "none", "care"}  # those that hardly are the names of classes


@dataclasses.dataclass(frozen=True)
class ClassTable:
  """K classes in training order, and how source labels become 0..K-1 and IGNORE.

  Attributes:
    names, colors: per class; colors are (r, g, b).
    source_ids: per class, its id in the source's label files.
    ignore_id: the id of pixels without a class there, None when all have one.
    palette: source color -> training id, empty when the file gives no colors.
    ignored_name: of the entry with the ignored id, which is no class; None when there is none.
    counted: whether ids follow from the order of a text file, and nobody said from what on.
    notes: what to say of how the file is read, and of names that look as if they were ignored.
  """

  names: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]
  source_ids: tuple[int, ...]
  ignore_id: int | None
  palette: dict[tuple[int, int, int], int]
  ignored_name: str | None = None
  counted: bool = False
  notes: tuple[str, ...] = ()

  def convert(self, label: np.ndarray, where: str) -> np.ndarray:
    """Source ids [H, W] or colors [H, W, 3] -> uint8 [H, W]; DataError names unknown values."""
    return self._from_colors(label, where) if label.ndim == 3 else self._from_ids(label, where)

  def knows(self, label: np.ndarray) -> bool:
    """Whether all ids [H, W] are those of classes."""
    return set(np.unique(label).tolist()) <= set(self.source_ids)

  def check_palette(self, label: np.ndarray, palette: np.ndarray, where: str) -> None:
    """DataError when a palette gives an id that the label holds another color than its class has.

    Args:
      label: indices [H, W].
      palette: uint8 [n, 3].
      where: the file's name.
    """
    by_class = {index: color for color, index in self.palette.items()}
    colors = {id_: by_class[index] for index, id_ in enumerate(self.source_ids)}
    for id_ in np.unique(label).tolist():
      shown = tuple(palette[id_].tolist()) if 0 <= id_ < len(palette) else None
      expected = colors.get(id_, shown)
      meant = self.palette.get(shown, IGNORE) if id_ == self.ignore_id else IGNORE
      if shown != expected or meant != IGNORE:
        name = "no class" if id_ == self.ignore_id else repr(self.names[self.palette[expected]])
        color = "" if id_ == self.ignore_id else f", {expected}"
        raise DataError(
          f"{where}: its palette gives index {id_} the color {shown}, in the classes file id {id_} "
          f"is {name}{color}; give --label_colors if the colors are right, or leave the colors out "
          "of the classes file if the ids are"
        )

  @property
  def are_grays_ids(self) -> bool:
    """Whether a gray (v, v, v) among the colors is that of the id v."""
    ids = dict(enumerate(self.source_ids)) | {IGNORE: self.ignore_id}
    return all(len(set(c)) > 1 or ids[index] == c[0] for c, index in self.palette.items())

  def _from_ids(self, label: np.ndarray, where: str) -> np.ndarray:
    table = np.full(_MAX_ID + 2, -1, np.int16)  # the last entry is for all ids out of range
    table[list(self.source_ids)] = range(len(self.source_ids))
    if self.ignore_id is not None and 0 <= self.ignore_id <= _MAX_ID:
      table[self.ignore_id] = IGNORE
    inside = label
    if label.dtype not in (np.uint8, np.uint16):
      wide = label.astype(np.int64)
      inside = np.where((wide < 0) | (wide > _MAX_ID), _MAX_ID + 1, wide)
    found = table[inside]
    if self.ignore_id is not None and not 0 <= self.ignore_id <= _MAX_ID:
      found[label == self.ignore_id] = IGNORE
    if found.min(initial=0) < 0:
      values, counts = np.unique(label[found < 0], return_counts=True)
      raise DataError(
        f"{where}: {_listed(values.tolist(), counts)} outside the classes (ids "
        f"{_ranges(self.source_ids)}, ignored {self.ignore_id}); {self._mend(label)}"
      )
    return found.astype(np.uint8)

  def _mend(self, label: np.ndarray) -> str:
    """What to do about the unknown ids of a label."""
    values = set(np.unique(label).tolist())
    if self.counted and values <= {*self.source_ids, len(self.source_ids), self.ignore_id}:
      nothing = " --ignore_id 0 (0 being no class)" if 0 in values else ""
      return (
        f"if the label counts classes from 1, give --first_id 1{nothing}; otherwise correct it, "
        "add the class, or set --ignore_id"
      )
    negative = sorted(value for value in values if value < 0)
    if negative:
      return _mend_of_negative(negative, values, self)
    otherwise = "correct the label, add the class, or set --ignore_id"
    if len(values - {*self.source_ids, self.ignore_id}) > 1:
      otherwise = "correct the label, or add the classes (one of them may be the --ignore_id)"
    known = values if len(values) == len(self.names) else values - {self.ignore_id}
    if len(known) == len(self.names):
      return (
        f"if these are the values of the classes, give --label_values {_joined(known)}; otherwise "
        f"{otherwise}"
      )
    if values == {0, 255}:
      return (
        "a mask of 0 and 255 shows two classes: give --label_values 0 255 with a --classes file "
        "that names just these two, what is black first"
      )
    if len(values) > len(self.names) + 8:
      return (
        "so many values are left by a resize that blends or a lossy file: take the masks as they "
        "were drawn"
      )
    return otherwise

  def _from_colors(self, label: np.ndarray, where: str) -> np.ndarray:
    packed = (label.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(2, dtype=np.uint32)
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
    wrong = [i for i, color in enumerate(colors) if color not in self.palette]
    if wrong:
      raise DataError(
        f"{where}: {_listed([colors[i] for i in wrong], counts[wrong])} not among "
        "the colors of the classes file; correct the label or add the color"
        + (" (so many are left by a resize that blends or a lossy file)" if len(wrong) > 8 else "")
      )
    ids = np.array([self.palette[color] for color in colors], np.uint8)
    return ids[inverse.reshape(packed.shape)]


def read_classes(
  file: str | os.PathLike,
  ignore_id: int | None = None,
  *,
  first_id: int | None = None,
  values: Sequence[int] | None = None,
) -> ClassTable:
  """Reads a classes file.

  The files of other tools are read, too, see `class_formats`. Our own:
  JSON: {"classes": [{"id": 0, "name": "sky", "rgb": [128, 128, 128]}, ...], "ignore_id": 11}, the
  colors optional. Text: a name per line, optionally followed by r g b; the id is the line's
  number from `first_id` on, '#' begins a comment line. Without colors a palette is chosen.

  The entry of the ignored id is not a class; it only gives a color to be ignored. It must say so:
  by its name ('void', 'unlabeled', 'car (ignored)', ...) or by "ignored": true.

  Args:
    file: the file.
    ignore_id: overrides the file's own (255, or None where `values` has it).
    first_id: of a text file, by default 0.
    values: the id of each entry in the file's order, instead of the file's own.

  Raises:
    DataError: naming the file: unreadable, no classes, repeated ids, names or colors, a class that
      has the ignored id though nothing says that it is to be ignored.
  """
  path = pathlib.Path(file)
  fields, entries, counted, notes = _read(path, first_id or 0)
  if first_id is not None and (values is not None or not counted):
    raise OptionError(
      f"--first_id {first_id} is for names a line without --label_values; leave it out"
    )
  if values is not None:
    entries = _with_values(path, entries, values)
  stated = fields.get("ignore_id") if ignore_id is None else ignore_id
  marked = [entry.id for entry in entries if entry.ignored]
  if stated is None and marked:
    stated = marked[0]
  ignored = IGNORE if stated is None and IGNORE not in (values or ()) else stated
  classes = [entry for entry in entries if entry.id != ignored]
  _check(path, entries, classes, ignored, fields.get("num_classes"))
  _check_marked(path, entries, ignored)
  palette = {e.rgb: IGNORE for e in entries if e.id == ignored and e.rgb}
  palette |= {e.rgb: index for index, e in enumerate(classes) if e.rgb}
  return ClassTable(
    tuple(e.name for e in classes),
    tuple(e.rgb or default_color(index) for index, e in enumerate(classes)),
    tuple(e.id for e in classes),
    ignored,
    palette,
    next((e.name for e in entries if e.id == ignored), None),
    counted and first_id is None and values is None,
    (*notes, *_trained_voids(path, classes), *_alike(path, classes)),
  )


def _read(
  path: pathlib.Path, first_id: int
) -> tuple[Mapping[str, Any], list[Entry], bool, list[str]]:
  """The fields of a file, its entries, whether a text counts them, and what to say of it."""
  read = _READERS.get(path.suffix.lower())
  try:
    text = text_files.read_text(path)
    if read is None and _is_document(text):
      read = class_documents.from_yaml
    if read is None:
      listing = class_formats.from_text(text, first_id)
      entries, _ = class_entries.parse(listing.rows)
      return {}, entries, listing.counted, _notes(path, listing.notes, entries)
    fields = read(text)
    entries, is_ordered = class_entries.parse(fields["classes"])
    if fields.get("ignore_id") is not None:
      fields["ignore_id"] = class_entries.whole(fields["ignore_id"], "its ignore_id")
  except ValueError as error:
    raise DataError(
      f"classes file {path} cannot be read: {error}; give {class_formats.ACCEPTED}"
    ) from error
  said = ["its classes have no ids and are counted from 0"] if is_ordered else []
  said += [fields["note"]] if "note" in fields else []
  return fields, entries, False, _notes(path, said, entries)


def _is_document(text: str) -> bool:
  """Whether it is JSON, or a list of Python, both of which are YAML."""
  start, end = text.strip()[:1], text.strip()[-1:]
  return (start, end) in (("{", "}"), ("[", "]"))


def _notes(path: pathlib.Path, said: Sequence[str], entries: Sequence[Entry]) -> list[str]:
  """One note on how a file is read, with the first classes; none for the usual ways."""
  if not said:
    return []
  shown = ", ".join(f"{e.id} = {e.name}" + (f" {e.rgb}" if e.rgb else "") for e in entries[:_SHOWN])
  more = ", ..." if len(entries) > _SHOWN else ""
  return [f"{path}: {'; '.join(said)}: {shown}{more}"]


def _trained_voids(path: pathlib.Path, classes: Sequence[Entry]) -> list[str]:
  """A note on each class whose name says that it is none."""
  return [
    f"{path}: {entry.name!r} is a class like the others, with the id {entry.id}; if its pixels are "
    f"to be ignored, give --ignore_id {entry.id}"
    for entry in classes
    if _words(entry) & _VOIDS
  ]


def _alike(path: pathlib.Path, classes: Sequence[Entry]) -> list[str]:
  """A note on each pair of names that differ in case, blanks and hyphens alone."""
  seen: dict[str, str] = {}
  pairs = []
  for entry in classes:
    other = seen.setdefault(re.sub(r"[\s_-]+", "", entry.name.casefold()), entry.name)
    if other != entry.name:
      pairs.append((other, entry.name))
  return [
    f"{path}: {a!r} and {b!r} are two classes; if they are one, correct labels and file"
    for a, b in pairs
  ]


def _words(entry: Entry) -> set[str]:
  return set(re.split(r"[^a-z]+", entry.name.lower()))


def default_color(index: int) -> tuple[int, int, int]:
  """A color per class: PASCAL VOC's palette from its second entry on, so that none is black."""
  red, green, blue = 0, 0, 0
  for shift in range(8):
    bits = (index + 1) >> (3 * shift)
    red |= (bits & 1) << (7 - shift)
    green |= (bits >> 1 & 1) << (7 - shift)
    blue |= (bits >> 2 & 1) << (7 - shift)
  return red, green, blue


def _mend_of_negative(negative: Sequence[int], values: set[int], table: ClassTable) -> str:
  """What to do about a label with negative values, which are the ids of no class."""
  if len(negative) == 1 and values - set(negative) <= set(table.source_ids):
    return (
      f"if pixels of {negative[0]} have no class, give --ignore_id {negative[0]}; if it is a "
      f"class, save the labels with ids from 0 to {_MAX_ID}"
    )
  return f"save the labels with ids from 0 to {_MAX_ID} (one negative id may be the --ignore_id)"


def _with_values(path: pathlib.Path, entries: list[Entry], values: Sequence[int]) -> list[Entry]:
  if len(values) != len(entries):
    raise OptionError(
      f"--label_values {_joined(values)}: {counted(len(values), 'value')} for "
      f"{counted(len(entries), 'class', 'classes')} of "
      f"{path} ({', '.join(entry.name for entry in entries)}); give one for each, in their order"
    )
  if len(set(values)) < len(values) or not all(0 <= value <= _MAX_ID for value in values):
    raise OptionError(
      f"--label_values {_joined(values)}: give each class of {path} a value of its own from 0 to "
      f"{_MAX_ID} ({', '.join(entry.name for entry in entries)}, in this order)"
    )
  return [dataclasses.replace(entry, id=value) for entry, value in zip(entries, values)]


def _check_marked(path: pathlib.Path, entries: list[Entry], ignored: int | None) -> None:
  """DataError for a class whose pixels would vanish as ignored ones."""
  for entry in entries:
    if entry.ignored and entry.id != ignored:
      raise DataError(
        f"classes file {path}: {entry.name!r} is marked as ignored, but its id {entry.id} is not "
        f"the ignored one, {ignored}; give --ignore_id {entry.id}"
      )
    if entry.id == ignored and not (entry.ignored or _words(entry) & _IGNORED_WORDS):
      raise DataError(
        f"classes file {path}: class {entry.name!r} has the id {entry.id} of ignored pixels, so it "
        f"would vanish; if that is meant, call it '{entry.name} (ignored)', or else give another "
        "--ignore_id, which no label has (such as -1)"
      )


def _check(
  path: pathlib.Path,
  entries: list[Entry],
  classes: list[Entry],
  ignored: int | None,
  stated: int | None,
) -> None:
  if not 1 <= len(classes) <= IGNORE:
    raise DataError(f"classes file {path}: {len(classes)} classes; give 1 to {IGNORE}")
  if stated not in (None, len(classes)):
    raise DataError(
      f"classes file {path}: says num_classes {stated} and lists {len(classes)} "
      f"besides the ignored id {ignored}; correct it"
    )
  outside = [entry for entry in classes if not 0 <= entry.id <= _MAX_ID]
  if outside:
    entry = outside[0]
    mend = f", or --ignore_id {entry.id} if its pixels are to be ignored" if entry.id < 0 else ""
    raise DataError(
      f"classes file {path}: id {entry.id} of class {entry.name!r}; give 0 to {_MAX_ID}{mend}"
    )
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
  shown = ", ".join(
    f"{value} ({counted(count, 'pixel')})" for value, count in zip(values[:8], counts)
  )
  return shown + (f" and {counted(len(values) - 8, 'more value')}" if len(values) > 8 else "")


def _joined(values: Iterable[int]) -> str:
  return " ".join(map(str, sorted(values) if isinstance(values, set) else values))


def _ranges(ids: tuple[int, ...]) -> str:
  return f"{min(ids)} to {max(ids)}" if len(ids) == max(ids) - min(ids) + 1 else str(sorted(ids))
