"""Whose a label is: found by folder and name, or named with what would lead to its picture."""

import collections
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from data_prep.sources import folder_files as files
from data_prep.sources.folder_files import Folders, Found, Mask, Naming
from semiseg_jax.data import picture_files
from semiseg_jax.data.pictures import PICTURE_SUFFIXES

_NUMBER = re.compile(r"[_. -]*\(?\d+\)?")


def stem_of(path: pathlib.Path) -> str:
  """The name without file suffix, in one Unicode form."""
  return picture_files.one_form(path.stem)


def naming_option(label: str, picture: str) -> str:
  """The options by which the name of a label leads to that of its picture."""
  start, end = _common(label, picture), _common(label[::-1], picture[::-1])
  if start >= end:
    pairs = (("image_suffix", picture[start:]), ("label_suffix", label[start:]))
  else:
    ends = (text[: len(text) - end] for text in (picture, label))
    pairs = tuple(zip(("image_prefix", "label_prefix"), ends))
  return " ".join(f"--{name}={text}" for name, text in pairs if text)


def _common(first: str, second: str) -> int:
  """The length of what both begin with, but for separators at its end."""
  length = len(os.path.commonprefix([first, second]))
  while length and not first[length - 1].isalnum():
    length -= 1
  return length


def owner_of(path: pathlib.Path, naming: Naming, stems: Iterable[str]) -> tuple[str, str] | None:
  """(P, rest) of a name that is prefix + P + suffix + rest for a picture P, the longest one."""
  stem, suffix = stem_of(path), naming.inner_suffix
  if not (naming.has_end(path) and stem.startswith(naming.prefix)):
    return None
  stem = stem.removeprefix(naming.prefix)
  for end in range(len(stem) - len(suffix), 0, -1):
    rest = stem[end + len(suffix) :]
    if not (stem[:end] in stems and stem.startswith(suffix, end) and rest):
      continue
    cuts_number = rest[0].isdigit() and stem[end + len(suffix) - 1].isdigit()  # 10 is no 1
    if not (rest[0].isalpha() or cuts_number):
      return stem[:end], rest
  return None


def _common_ending(stems: Iterable[str]) -> str:
  """What the names of all pictures, two and more, have after the id: '_leftImg8bit'."""
  stems = list(stems)
  ending = os.path.commonprefix([stem[::-1] for stem in stems])[::-1] if len(stems) > 1 else ""
  at = re.search(r"[_. -](?=[^\W\d])", ending)
  return ending[at.start() :] if at else ""


def _is_part(stem: str, name: str) -> bool:
  """Whether a name begins or ends with another one, and does not cut one of its numbers."""
  for start in (0, len(name) - len(stem)):
    ends = (name[start - 1 : start + 1], name[start + len(stem) - 1 : start + len(stem) + 1])
    if start >= 0 and name.startswith(stem, start):
      if not any(len(pair) == 2 and pair.isdigit() for pair in ends):
        return True
  return False


class Owners:
  """Finds the picture of a label: by folder and name, by name alone, or by the name's beginning."""

  def __init__(self, where: Folders, pictures: Mapping[str, Found]):
    self._where = where
    self._by_key = {file.key: id_ for id_, file in pictures.items()}
    counts = collections.Counter(file.stem for file in pictures.values())
    self._by_stem = {f.stem: id_ for id_, f in pictures.items() if counts[f.stem] == 1}
    self._stems = frozenset(counts)
    self._twins = {f.stem: [] for f in pictures.values() if counts[f.stem] > 1}
    for id_, file in pictures.items():
      self._twins.get(file.stem, []).append(id_)
    self._ending = _common_ending(self._stems)
    self._files = {picture_files.loose_form(f.stem): f.path.name for f in pictures.values()}

  def find(self, path: pathlib.Path) -> tuple[str | None, Mask]:
    """The id, None when there is none, and the mask."""
    stem, label, root = self._where.label.stem(path), self._where.label, self._where.labels
    if stem is not None:
      file = files.found_file(root, path, stem)
      if (id_ := self._id(file)) is not None:
        return id_, Mask(path, "/".join(file.place))
    owners = [owner_of(path, label, self._stems)]
    if self._where.several and stem:
      owners.append(owner_of(path.with_name(stem + path.suffix), Naming(), self._stems))
    for owner in filter(None, owners):
      if self._where.several or label.length or _NUMBER.fullmatch(owner[1]):
        id_ = self._id(files.found_file(root, path, owner[0]))
        if id_ is not None:
          return id_, Mask(path, owner[1], is_part=True)
    file = files.found_file(root, path, stem_of(path))
    if self._where.several and file.place:
      return self._id(Found(path, file.place[:-1], file.place[-1])), Mask(path, file.stem)
    return None, Mask(path, "")

  def _id(self, file: Found) -> str | None:
    return self._by_key.get(file.key, self._by_stem.get(file.stem))

  def alone(self, path: pathlib.Path, masks: Mapping[str, Sequence[Mask]], propose: bool) -> str:
    """What to say of a label without a picture, beside the `masks` of pictures."""
    stem, option = stem_of(path), "--label_suffix or --image_suffix (such as _mask)"
    line = f"label {path} has no picture in {self._where.images}"
    file = files.found_file(self._where.labels, path, self._where.label.stem(path) or stem)
    twins = self._twins.get(file.stem)
    if twins:
      return (
        f"{line} in the same folders; {len(twins)} pictures have its name ({', '.join(twins[:2])}"
        f"{', ...' if len(twins) > 2 else ''}): put it into a folder of the same name as that of "
        "its picture"
      )
    if file.place and self._id(Found(path, file.place[:-1], file.place[-1])) is not None:
      return f"{line}, but a folder of its name, {file.place[-1]}: --merge_masks joins all in it"
    same = self._files.get(picture_files.loose_form(self._where.label.stem(path) or stem))
    if same:
      return f"{line}; {same} differs from it only a little: give both files the same name"
    near = ()
    if propose and not self._where.label.length:
      near = [s for s in self._stems if s != stem and _is_part(s, stem)]
      option = self._both_suffixes(stem) or option
    if near:
      nearest = max(near, key=len)
      option = naming_option(stem, nearest)
      if option.lower().endswith(PICTURE_SUFFIXES):  # of a.jpg.png: .jpg is no kind of these files
        option += path.suffix
      taken = masks.get(self._by_stem.get(nearest, nearest))
      if taken:
        return (
          f"{line}; {taken[0].path.name} is the mask of {nearest!r} already: move this file away, "
          f"or, if files with such names are the masks, set {option}, which leaves out the others"
        )
    return f"{line}; set {option} if names differ by it, or remove this label"

  def _both_suffixes(self, stem: str) -> str:
    """The options where pictures, and labels maybe, have something after the id; else empty."""
    if not self._ending:
      return ""
    if stem + self._ending in self._stems:
      return f"--image_suffix={self._ending}"
    for end in range(len(stem) - 1, 0, -1):
      if stem[:end] + self._ending in self._stems and stem[end] in "_. -":
        return f"--image_suffix={self._ending} --label_suffix={stem[end:]}"
    return ""
