"""The files in a folder of a user: what is hidden, what is a mask by name, one form of names."""

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

# Folders in which systems and programs keep previews and waste.
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_MASKS = (
  r"ground[_ -]?truths?|gts?|lbl|anns?|annots?|annotations?|trimaps?|manual\d?|segm?|segmentations?"
  r"|((color|class|label|instance|semantic|seg|segmentation)[_ -]?)?(masks?|labels?|annotations?)"
  r"|segmentation(class|object)(aug|raw)?|(label|instance|train|labeltrain)[_ -]?ids"
  r"|labels?[_ -]colou?rs?"
)
_MASK_FOLDER = re.compile(_MASKS, re.IGNORECASE)
_MASK_END = re.compile(
  rf"[_. -]({_MASKS}|l|colou?rs?|overlay|index(ed)?)([_. -]?\(?\d+\)?)?$",
  re.IGNORECASE,
)
_MASK_START = re.compile(rf"^({_MASKS})([_. -]|(?=\d))", re.IGNORECASE)
_PICTURE = r"images?|imgs?|photos?|pictures?|pics?|frames?|rgb|sat|inputs?|original|orig"
_PICTURE_ENDS = re.compile(rf"^({_PICTURE})([_. -]|(?=\d))|[_. -]({_PICTURE})$", re.IGNORECASE)


def files_under(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
  """The files of a folder and its sub-folders, links to folders included, but for hidden ones."""
  seen = set()
  for place, folders, names in os.walk(folder, followlinks=True):
    if os.path.realpath(place) in seen:  # a link back to a folder above
      folders.clear()
      continue
    seen.add(os.path.realpath(place))
    folders[:] = [name for name in folders if not is_hidden(name)]
    yield from (pathlib.Path(place, name) for name in names if not is_hidden(name))


def is_hidden(name: str) -> bool:
  """Whether a file or folder of this name is no part of a data set: made by a system for itself."""
  return name.startswith(".") and name != "." or name in _SYSTEM_FOLDERS


def one_form(name: str) -> str:
  """The name in Unicode's composed form: a Mac takes its letters and their marks apart."""
  return unicodedata.normalize("NFC", name)


def loose_form(name: str) -> str:
  """What names have in common that people take for the same: img_007, IMG-7, Img 07.

  Small letters, numbers without leading zeros, no separators but between numbers.
  """
  numbered = re.sub(r"\d+", lambda digits: str(int(digits[0])), one_form(name).casefold())
  return re.sub(r"(?<!\d)[\W_]+|[\W_]+(?!\d)", "", numbered)


def is_mask_folder(name: str) -> bool:
  """Whether a folder of this name usually holds labels: masks, labels, SegmentationClass, ..."""
  return _MASK_FOLDER.fullmatch(name) is not None


def masks_by_name(files: Sequence[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
  """The files that another one's name and a word for masks name: file -> the other one.

  Such as a_mask.png beside a.jpg, or mask_1.png beside image_1.jpg.
  """
  by_name: dict[tuple[pathlib.Path | None, str], pathlib.Path] = {}
  for file in files:
    for name in (_PICTURE_ENDS.sub("", file.stem), file.stem):
      by_name |= {(file.parent, name): file, (None, name): file}
  found = {}
  for file in files:
    for name in sorted({end.sub("", file.stem) for end in (_MASK_END, _MASK_START)} - {file.stem}):
      other = by_name.get((file.parent, name), by_name.get((None, name), file))
      if other != file:
        found[file] = other
  return found
