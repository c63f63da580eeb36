"""A plain folder of pictures with a folder of masks, read as a labeled dataset without shards."""

import collections
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semiseg_jax.data import orientation, picture_files, picture_sizes, pictures
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.records import Example
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import SHOWN, ConfigError, DataError
from semiseg_jax.evaluation import source_ids
from semiseg_jax.labels import IGNORE

OTHERS = "others"  # of `ignore`: all ids that are no class
Files = dict[str, tuple[pathlib.Path, pathlib.Path]]  # id -> picture, mask


class MaskedFolder:
  """What evaluation reads of a dataset: info, root, index, read; `ids` are all pictures."""

  def __init__(
    self,
    images: str,
    labels: str,
    about: Mapping[str, Any],
    *,
    ids: str | None = None,
    ignore: Sequence[str] = (str(IGNORE),),
  ):
    """Finds the pairs; a picture without a mask is left out, which is said.

    Args:
      images: the folder of pictures; sub-folders count.
      labels: the folder of masks, of the names of the pictures or with a word for masks (a_mask).
      about: the data set of a trained run, as its checkpoints describe it.
      ids: 'train' where masks hold 0 to K - 1, 'source' for the ids of the masks that the training
        data was prepared from; None: these are the same, or not known.
      ignore: ids of the masks that are no class and not counted, or 'others'.

    Raises:
      ConfigError: ids that could be either, or an `ignore` that is no id or a class.
      DataError: no folder, no pairs, or files that cannot be told apart.
    """
    self._reading = dict(about.get("reading") or {})
    self._to_class = _ToClasses(_values(ids, about), ignore)
    self.root, self._files = images, _pairs(pathlib.Path(images), pathlib.Path(labels))
    exif = self._reading.get("exif", orientation.TURN)
    sizes = [picture_sizes.size_of(picture, exif) for picture, _ in self._files.values()]
    self.info = DatasetInfo(
      name=pathlib.Path(os.path.abspath(images)).name,
      classes=tuple(about["classes"]),
      colors=tuple(map(tuple, about["colors"])),
      source_ignore_id=None,
      channels=about["channels"],
      ids=tuple(self._files),
      sizes=() if None in sizes else tuple(sizes),
      labeled=(True,) * len(sizes),
      class_pixels=(),
      lists={},
      list_pixels={},
      fingerprint=_fingerprint(about["classes"], self._files),
      codec="",
      reading=self._reading,
    )

  @property
  def ids(self) -> IdList:
    """All pictures that have a mask."""
    return IdList("all", self.info.ids)

  @functools.cached_property
  def _positions(self) -> dict[str, int]:
    return {id_: index for index, id_ in enumerate(self.info.ids)}

  def index(self, id_: str) -> int:
    """The number of a picture."""
    return self._positions[id_]

  def read(self, index: int) -> Example:
    """Picture and label; DataError where one cannot be read, or their sizes differ."""
    id_ = self.info.ids[index]
    picture, mask = self._files[id_]
    image = pictures.read_picture(picture, channels=self.info.channels, **self._reading)
    exif = self._reading.get("exif", orientation.TURN)
    label = self._to_class(pictures.read_label(mask, grays=True, exif=exif), mask)
    if label.shape != image.pixels.shape[:2]:
      (h, w), (tall, wide) = image.pixels.shape[:2], label.shape
      raise DataError(f"{mask} is {wide}x{tall} and its picture {picture} {w}x{h}: correct one")
    if image.valid is not None:
      label = np.where(image.valid, label, np.uint8(IGNORE))
    return Example(id_, image.pixels, label)


def _values(ids: str | None, about: Mapping[str, Any]) -> list[int]:
  """The id of each class in the masks."""
  train = list(range(len(about["classes"])))
  source = list(about.get("source_ids") or train)
  if ids is None and source != train:
    raise ConfigError(
      f"the masks hold either 0 to {len(train) - 1} in the order of the classes, or the ids that "
      f"the masks of the training data have ({_some(source)}): say --ids=train or --ids=source"
    )
  return source_ids.table(ids or "train", dict(about)).tolist()


class _ToClasses:
  """Gives label uint8 [H,W] of mask, path: ids of classes -> 0 to K - 1, ignored ones -> IGNORE."""

  def __init__(self, values: list[int], ignore: Sequence[str]):
    wrong = [x for x in ignore if x != OTHERS and not x.isdecimal() or x in map(str, values)]
    if wrong:
      raise ConfigError(
        f"--ignore {' '.join(wrong)}: ids of masks that are no class, or {OTHERS!r} for all; "
        f"the classes have {_some(values)}"
      )
    self._values, self._others = values, OTHERS in ignore
    self._ignored = [int(x) for x in ignore if x != OTHERS]

  def __call__(self, mask: np.ndarray, file: pathlib.Path) -> np.ndarray:
    found, inverse = np.unique(mask, return_inverse=True)
    known = {value: k for k, value in enumerate(self._values)}
    strange = [v for v in found.tolist() if v not in known and v not in self._ignored]
    if strange and not self._others:
      raise DataError(
        f"{file}: {_some(strange)} is no class ({_some(self._values)}) and not ignored: "
        f"--ignore {' '.join(map(str, strange[:SHOWN]))} leaves these out, --ignore {OTHERS} "
        "all such; --ids says which ids masks have"
      )
    to = np.array([known.get(v, IGNORE) for v in found.tolist()], np.uint8)
    return to[inverse].reshape(mask.shape)


def _some(values: Sequence[int]) -> str:
  more = ", ..." if len(values) > SHOWN else ""
  return ", ".join(map(str, values[:SHOWN])) + more


def _pairs(images: pathlib.Path, labels: pathlib.Path) -> Files:
  for folder, flag in ((images, "--images"), (labels, "--labels")):
    if not folder.is_dir():
      raise DataError(f"{flag}={folder} is not a folder")
  masks = _files(labels, pictures.LABEL_SUFFIXES)
  found = _files(images, pictures.PICTURE_SUFFIXES)
  if os.path.realpath(images) == os.path.realpath(labels):
    named = picture_files.masks_by_name(found)
    masks, found = [file for file in masks if file in named], [f for f in found if f not in named]
  else:
    found = [file for file in found if file not in {*masks}]
  by_id = _by_id(images, found)
  owners = _owners(labels, masks, by_id)
  pairs = {id_: (by_id[id_], owners[id_]) for id_ in by_id if id_ in owners}
  if not pairs:
    raise DataError(
      f"none of the {len(found)} pictures in {images} has a mask among the {len(masks)} files in "
      f"{labels}: a mask has the name of its picture, or that and a word for masks (a_mask.png)"
    )
  _say("pictures have no mask and are left out", [str(by_id[i]) for i in by_id if i not in owners])
  used = {*owners.values()}
  _say("masks belong to no picture", [str(file) for file in masks if file not in used])
  return pairs


def _files(folder: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
  return sorted(f for f in picture_files.files_under(folder) if f.suffix.lower() in suffixes)


def _by_id(root: pathlib.Path, files: Sequence[pathlib.Path]) -> dict[str, pathlib.Path]:
  """Path below `root` without suffix -> file."""
  found: dict[str, pathlib.Path] = {}
  for file in files:
    id_ = picture_files.one_form(file.relative_to(root).with_suffix("").as_posix())
    if id_ in found:
      raise DataError(f"{found[id_]} and {file} have the same name; rename one of them")
    found[id_] = file
  return found


def _owners(
  root: pathlib.Path, masks: Sequence[pathlib.Path], by_id: Mapping[str, pathlib.Path]
) -> dict[str, pathlib.Path]:
  """Id of a picture -> its mask."""
  found = {id_: mask for id_, mask in _by_id(root, masks).items() if id_ in by_id}
  rest, left = [i for i in by_id if i not in found], {*masks} - {*found.values()}
  stems = collections.Counter(by_id[id_].stem for id_ in rest)
  alone = {by_id[id_]: id_ for id_ in rest if stems[by_id[id_].stem] == 1}
  named = picture_files.masks_by_name([*alone, *sorted(left)])
  for mask in sorted(left):
    id_ = alone.get(named.get(mask))
    if id_ in found:
      raise DataError(f"{found[id_]} and {mask} are both masks of {by_id[id_]}; move one away")
    if id_ is not None:
      found[id_] = mask
  return found


def _say(what: str, files: Sequence[str]) -> None:
  if files:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    print(f"NOTE {len(files)} {what}: {', '.join(files[:SHOWN])}{more}")


def _fingerprint(classes: Sequence[str], files: Files) -> str:
  """SHA-256 over classes, names and contents of the files."""
  total = hashlib.sha256("\n".join(classes).encode())
  for id_, pair in files.items():
    parts = (hashlib.sha256(file.read_bytes()).hexdigest() for file in pair)
    total.update("\n".join(("", id_, *parts)).encode())
  return total.hexdigest()
