"""List files as people publish them: which picture each line names.

2007_000032                                                    an id
leftImg8bit/train/aachen/aachen_0_19_leftImg8bit.png           a picture
/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png   a picture and its label,
                          separated by blanks, a tab, a comma, a semicolon or a bar
leftImg8bit/train_extra/augsburg/augsburg_000000_000000_leftImg8bit.png None
                          a picture without a label
"""

import codecs
import dataclasses
import functools
import os
import pathlib
import re
import unicodedata
from collections.abc import Collection

from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import LABEL_SUFFIXES, PICTURE_SUFFIXES

_SEPARATORS = {"\t": "tabs", ",": "commas", "|": "bars", ";": "semicolons", " ": "blanks"}
# Of what others train on; a picture that was made of it has the same name.
_VOLUMES = (".dcm", ".h5", ".hdf5", ".nii", ".nii.gz", ".npy", ".npz")
_SUFFIXES = tuple({*PICTURE_SUFFIXES, *LABEL_SUFFIXES, *_VOLUMES, ".gif", ".mat", ".ppm"})
_NO_LABEL = ("none", "null", "nan", "-")
_CITYSCAPES = re.compile(
  r"_(leftImg8bit|gtFine|gtCoarse)(_(labelIds|labelTrainIds|instanceIds|color))?$"
)


# Of Cityscapes train_extra, a picture of one color as it was published.  Preparation leaves it out,
# lists of others name it.
DEFECTIVE = "troisdorf_000000_000073"


class Names:
  """Finds the id that a name in a list file stands for.

  A name is an id as it stands; or folders, an id, and a file suffix; what stands between id and
  file suffix may be `suffix` or a Cityscapes ending (`_leftImg8bit`, `_gtFine_labelIds`, ...), in
  the list, in the ids, or in both; before the id may be `prefix`. An id with folders is found by
  the last of them, too. Names are compared in either of Unicode's forms.
  """

  def __init__(self, known: Collection[str], suffix: str = "", prefix: str = ""):
    self._known, self._suffix, self._prefix = known, suffix, prefix
    self._deep = any("/" in id_ for id_ in known)
    self._by_stem: dict[str, str | None] = {}
    for id_ in known:
      stem = _base(id_)
      self._by_stem[stem] = None if stem in self._by_stem else id_  # None: two ids, so neither

  def is_id(self, text: str) -> bool:
    """Whether the text is an id as it stands."""
    return text in self._known

  def near(self, name: str) -> str | None:
    """The id that is the same but for capitals, separators and zeros before numbers, if any."""
    return self._by_loose_form.get(picture_files.loose_form(_base(name)))

  @functools.cached_property
  def _by_loose_form(self) -> dict[str, str]:
    return {picture_files.loose_form(_base(id_)): id_ for id_ in sorted(self._known)}

  def find(self, name: str) -> str | None:
    """The id of one name, None for a name of no picture."""
    forms = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
    return next((id_ for form in forms if (id_ := self._find(form)) is not None), None)

  def _find(self, name: str) -> str | None:
    *folders, base = name.replace("\\", "/").split("/")
    stem = _without_file_suffix(base)
    core = stem.removesuffix(self._suffix).removeprefix(self._prefix)
    starts = range(len(folders)) if self._deep else ()
    deep = ("/".join((*folders[i:], end)) for i in starts for end in (base, stem, core))
    key = _CITYSCAPES.sub("", core if self._prefix else stem)
    is_unclear = self._deep and folders and self._by_stem.get(key, key) is None
    for candidate in (name, *deep, *(() if is_unclear else (base, stem, core))):
      if candidate in self._known:
        return candidate
    return self._by_stem.get(key)


@dataclasses.dataclass(frozen=True)
class Line:
  """What a line says: `id`, or None and the `problem`; `layout` describes its columns.

  None without a problem is of the picture DEFECTIVE where there is no such id.
  """

  id: str | None
  layout: str
  problem: str = ""


def read_lines(file: str | os.PathLike) -> list[tuple[int, str]]:
  """(number, text) of the lines that are not blank.

  UTF-8, or UTF-16 with a byte order mark. Raises OSError or UnicodeDecodeError.
  """
  data = pathlib.Path(file).read_bytes()
  wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  text = data.decode("utf-16" if wide else "utf-8-sig")
  return [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_line(line: str, names: Names) -> Line:
  """The picture that a line names; a second column must be the label of the same picture."""
  if names.is_id(line):
    return Line(line, "one column")
  readings = [
    _read_columns(_columns(line, separator), word, names)
    for separator, word in _SEPARATORS.items()
    if separator in line or separator == " "
  ]
  return next((r for r in readings if r.id is not None or not r.problem), readings[0])


def _read_columns(columns: list[str], separator: str, names: Names) -> Line:
  layout = f"{len(columns)} columns separated by {separator}" if columns[1:] else "one column"
  id_ = names.find(columns[0])
  if id_ is None and _base(columns[0]) == DEFECTIVE and len(columns) <= 2:
    return Line(None, layout)
  if id_ is None:
    shown = " ".join(columns) if separator == "blanks" else columns[0]
    near = names.near(columns[0])
    hint = f" (near: {near!r})" if near else ""
    problem = (
      f"{shown!r} names no picture of the dataset{hint}; correct the list or add the picture"
    )
    return Line(None, layout, problem)
  if len(columns) > 2:
    return Line(None, layout, f"{layout}; write an id, or a picture and its label")
  if len(columns) == 2:
    label = names.find(columns[1])
    if label not in (None, id_):
      problem = f"picture {columns[0]!r} and label {columns[1]!r} are of two pictures"
      return Line(None, layout, f"{problem}; correct the pair")
    said = columns[1].lower()
    if label is None and not (said.endswith(_SUFFIXES) or said in _NO_LABEL):
      problem = f"{columns[1]!r} beside {columns[0]!r} is no label file; keep the lines you want"
      return Line(None, layout, f"{problem}, and their first column")
  return Line(id_, layout)


def _columns(line: str, separator: str) -> list[str]:
  """Names may have blanks inside when they end with a file suffix."""
  if separator != " ":
    return [column.strip() for column in line.split(separator) if column.strip()] or [line]
  words = line.split()
  ends = [i for i, word in enumerate(words, 1) if word.lower().endswith(_SUFFIXES)]
  if not ends:
    return words
  starts = [0, *ends]
  names = [" ".join(words[a:b]) for a, b in zip(starts, ends)]
  return names + words[ends[-1] :]


def _base(name: str) -> str:
  """The name without folders and endings."""
  return _CITYSCAPES.sub("", _without_file_suffix(name.replace("\\", "/").rsplit("/", 1)[-1]))


def _without_file_suffix(name: str) -> str:
  suffix = next((s for s in _SUFFIXES if name.lower().endswith(s)), "")
  return name[: len(name) - len(suffix)]
