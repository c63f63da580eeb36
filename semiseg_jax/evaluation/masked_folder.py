"""A plain folder of pictures with a folder of masks, read as a labeled dataset without shards."""

import collections
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semiseg_jax.data import orientation, picture_files, pictures
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.records import Example
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import SHOWN, ConfigError, DataError
from semiseg_jax.evaluation import masked_check, source_ids
from semiseg_jax.evaluation.masked_check import Looked
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

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
      DataError: no folder, no pairs, files that cannot be told apart; all that cannot be read, are
        of several sizes, or hold ids of no class.
    """
    self._reading = dict(about.get("reading") or {})
    self._to_class = _ToClasses(_values(ids, about), ignore)
    self.root = images
    self._files, bare = _pairs(pathlib.Path(images), pathlib.Path(labels))
    looked = self._looked(bare, about["channels"])
    sizes = [one.size for one in looked]
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
      fingerprint=_fingerprint(about["classes"], dict(zip(self._files, looked))),
      codec="",
      reading=self._reading,
    )

  def _looked(self, bare: Sequence[pathlib.Path], channels: int) -> list[Looked]:
    """What was seen of each pair; DataError of all that is wrong, a NOTE of pictures alone."""
    pairs, to_class = list(self._files.values()), self._to_class
    looked = masked_check.look(pairs, to_class.strange, self._reading, channels)
    lost = masked_check.broken(bare, self._reading, channels)
    masked_check.complain(looked, lost, to_class.advice)
    for line in lost:
      print(f"NOTE {line}; it has no mask either")
    return looked

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
    masked_check.check_sizes(mask, label.shape, picture, image.pixels.shape[:2])
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
    if strange := self.strange(mask):
      raise DataError(f"{file}: {_some(strange)}: no class ({self.advice(strange)})")
    found, inverse = np.unique(mask, return_inverse=True)
    known = {value: k for k, value in enumerate(self._values)}
    to = np.array([known.get(v, IGNORE) for v in found.tolist()], np.uint8)
    return to[inverse].reshape(mask.shape)

  def strange(self, mask: np.ndarray) -> list[int]:
    """The ids in a mask that are neither a class nor ignored."""
    small = mask.dtype == np.uint8
    found = np.flatnonzero(np.bincount(mask.ravel())) if small else np.unique(mask)
    known = {*self._values, *self._ignored}
    return [] if self._others else [v for v in found.tolist() if v not in known]

  def advice(self, strange: Sequence[int]) -> str:
    """What to do about ids that are no class."""
    return (
      f"the classes have {_some(self._values)}; --ignore {' '.join(map(str, strange[:SHOWN]))} "
      f"leaves these out, --ignore {OTHERS} all such; --ids says which ids masks have"
    )


def _some(values: Sequence[int]) -> str:
  more = ", ..." if len(values) > SHOWN else ""
  return ", ".join(map(str, values[:SHOWN])) + more


def _pairs(images: pathlib.Path, labels: pathlib.Path) -> tuple[Files, list[pathlib.Path]]:
  """The pairs, and the pictures that have no mask."""
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
      f"none of {counted(len(found), 'picture')} in {images} has a mask among "
      f"{counted(len(masks), 'file')} in {labels}: a mask has the name of its picture, or that and "
      "a word for masks (a_mask.png)"
    )
  bare, used = [by_id[id_] for id_ in by_id if id_ not in owners], {*owners.values()}
  _say("picture has no mask and is", "pictures have no mask and are", "left out", bare)
  alone = [file for file in masks if file not in used]
  _say("mask belongs", "masks belong", "to no picture", alone)
  return pairs, bare


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


def _say(one: str, many: str, rest: str, files: Sequence[pathlib.Path]) -> None:
  if files:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    shown = ", ".join(map(str, files[:SHOWN]))
    print(f"NOTE {counted(len(files), one, many)} {rest}: {shown}{more}")


def _fingerprint(classes: Sequence[str], looked: Mapping[str, Looked]) -> str:
  """SHA-256 over classes, names and contents of the files."""
  total = hashlib.sha256("\n".join(classes).encode())
  for id_, one in looked.items():
    total.update("\n".join(("", id_, *one.digests)).encode())
  return total.hexdigest()
