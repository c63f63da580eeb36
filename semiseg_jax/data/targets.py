"""Stored targets: what a network said of the pictures of a dataset, to train another one on.

    FOLDER/targets.json             fields, classes, ids, sizes, counts, shards, fingerprints, about
    FOLDER/records-00000.array_record ...

A record is a msgpack map: `v` format version, `id`, `size` [H, W] of the picture, and `fields`, by
name what `records.store_pixels` packs. All values are uint8; how they are meant is the field's
business. Two fields have a meaning here: `label`, class ids and labels.IGNORE for none, and
`confidence`, the rounded 255-fold of a probability. Soft labels are two more, which `soft` reads:
`top_classes`, the k most probable classes of each pixel, and `top_probabilities`, the rounded
255-fold of their probabilities. The folder appears under its name only when it is complete
(`writing.targets_writer`).
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from semiseg_jax import seals
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.records import (
  HAS_DATA,
  Example,
  Map,
  Record,
  StoredPixels,
  store_pixels,
  tile_of,
)
from semiseg_jax.data.shard_reader import ShardInfo, ShardReader, damage
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

FORMAT = 1
METADATA = "targets.json"
TARGET = "target"  # the batch's name of the field `label`, beside the picture's own `label`
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("image", "valid", "index", "geometry", TARGET, HAS_DATA)  # fields of a batch; and NAME_2
_AGAIN = "make the targets again"


@dataclasses.dataclass(frozen=True)
class Field:
  """Uint8 values of each picture.

  Attributes:
    kind: 'map', values per pixel, or 'vector', values per picture.
    channels: K of a map [H, W, K] or a vector [K]; 0 is a map [H, W].
    fill: what stands in the padding of a crop.
  """

  kind: str = "map"
  channels: int = 0
  fill: int = 0

  def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of the values of a picture of `size` (H, W)."""
    deep = (self.channels,) if self.channels else ()
    return deep if self.kind == "vector" else (*size, *deep)

  @property
  def problem(self) -> str:
    """What is wrong with it, "" when nothing is."""
    if self.kind not in ("map", "vector"):
      return f"kind {self.kind!r} instead of 'map' or 'vector'"
    if not (self.kind == "vector") <= self.channels <= 255:
      return f"{self.channels} channels; a map has 0 to 255, a vector 1 to 255"
    return "" if 0 <= self.fill <= 255 else f"fill {self.fill} is no uint8"


LABEL, CONFIDENCE = "label", "confidence"
FIELDS = {LABEL: Field(fill=IGNORE), CONFIDENCE: Field()}
TOP_CLASSES, TOP_PROBABILITIES = "top_classes", "top_probabilities"


def soft_fields(top: int) -> dict[str, Field]:
  """Label and confidence, and soft labels of the `top` most probable classes; 0 for none."""
  if not top:
    return FIELDS
  soft = {TOP_CLASSES: Field(channels=top, fill=IGNORE), TOP_PROBABILITIES: Field(channels=top)}
  return FIELDS | soft


def soft(top_classes: np.ndarray, top_probabilities: np.ndarray, classes: int) -> np.ndarray:
  """Returns probabilities float32 [...,K] that sum to 1, of the fields of soft labels.

  What the k classes leave is shared by the others alike; pixels without any are 0 everywhere.

  Args:
    top_classes: uint8 [...,k], IGNORE for none.
    top_probabilities: uint8 [...,k].
    classes: K.
  """
  p = top_probabilities.astype(np.float32) / 255
  p /= np.maximum(p.sum(-1, keepdims=True), 1)  # rounded, they may be a little more
  k, known = p.shape[-1], top_classes[..., :1] != IGNORE
  rest = (1 - p.sum(-1, keepdims=True)) / max(classes - k, 1)
  found = np.where(known, np.broadcast_to(rest, (*rest.shape[:-1], classes)), np.float32(0))
  # All k are of one pixel: of padding and of pixels without data, all IGNORE.
  np.put_along_axis(found, np.where(known, top_classes, 0).astype(int), np.where(known, p, 0), -1)
  if k == classes:
    found /= np.maximum(found.sum(-1, keepdims=True), np.float32(1e-12))
  return found


@dataclasses.dataclass(frozen=True)
class TargetsInfo:
  """What is known of targets without reading their shards.

  Attributes:
    fields: what is stored of each picture.
    classes: K names.
    ids, sizes: per record, in record order; sizes are (H, W).
    class_pixels: K + 1 pixel counts over all labels, the last of pixels without one; empty when
      there is no field `label`.
    dataset: the fingerprint of the dataset that the ids belong to; dataset_name its name.
    fingerprint: SHA-256 over fields, classes and all records, in hexadecimal.
    about: who made them, plain JSON values.
  """

  fields: dict[str, Field]
  classes: tuple[str, ...]
  ids: tuple[str, ...]
  sizes: tuple[tuple[int, int], ...]
  class_pixels: tuple[int, ...]
  dataset: str
  dataset_name: str
  fingerprint: str
  about: dict[str, Any]

  def describe(self) -> dict[str, Any]:
    """What results keep of the targets, plain JSON values."""
    return {
      "pictures": len(self.ids),
      "fields": sorted(self.fields),
      "fingerprint": self.fingerprint,
      "about": self.about,
    }


class Targets:
  """A finished folder of targets; cheap to open and pickle, safe to read from several threads."""

  def __init__(self, root: str, info: TargetsInfo, shards: tuple[ShardInfo, ...]):
    self.root, self.info, self.shards = root, info, shards
    self._reader = ShardReader(root, shards, _AGAIN)

  @classmethod
  def open(cls, folder: str | os.PathLike) -> "Targets":
    """Opens the targets in `folder`; DataError when they are missing, unfinished or damaged."""
    path = pathlib.Path(folder).absolute()
    metadata = _load_metadata(path)
    try:
      shards = tuple(ShardInfo(**shard) for shard in metadata["shards"])
      info = _to_info(metadata)
      problems = damage(path, shards) + field_problems(info.fields)
    except (KeyError, TypeError, AttributeError) as error:
      raise DataError(f"{path / METADATA}: damaged ({error!r}); {_AGAIN}") from error
    counts = {len(info.ids), len(info.sizes), sum(shard.records for shard in shards)}
    if len(counts) > 1:
      problems.append(f"{path / METADATA}: numbers of records {sorted(counts)}")
    if problems:
      raise DataError.of_all(f"targets {path} are damaged, {_AGAIN}:", problems)
    return cls(str(path), info, shards)

  def __len__(self) -> int:
    return len(self.info.ids)

  def __getstate__(self) -> dict[str, Any]:
    return {"root": self.root, "info": self.info, "shards": self.shards}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__init__(**state)

  @functools.cached_property
  def _positions(self) -> dict[str, int]:
    return {id_: index for index, id_ in enumerate(self.info.ids)}

  def check(
    self,
    dataset: Dataset | JoinedDataset,
    ids: Sequence[str],
    fields: Sequence[str] = (),
  ) -> None:
    """Raises DataError unless the targets are of `dataset`, and hold `ids` and `fields`."""
    absent = [name for name in fields if name not in self.info.fields]
    if absent:
      stored = ", ".join(self.info.fields)
      raise DataError(
        f"targets {self.root} hold no {', '.join(map(repr, absent))}, only {stored}; {_AGAIN} with "
        "them, or choose a method that does not read them"
      )
    if self.info.dataset not in _fingerprints(dataset):
      raise DataError(
        f"targets {self.root} were made for another dataset (named {self.info.dataset_name!r}, "
        f"fingerprint {self.info.dataset[:12]}) than {dataset.root} (named {dataset.info.name!r}, "
        f"{dataset.info.fingerprint[:12]}); give the folder made for this one, or {_AGAIN}"
      )
    missing = [f"no targets of {id_!r}" for id_ in ids if id_ not in self._positions]
    if missing:
      raise DataError.of_all(
        f"targets {self.root} lack {len(missing)} of {counted(len(ids), 'picture')}; {_AGAIN} for "
        "this list, "
        "or take them off the list:",
        missing,
      )

  def read_ahead(self, ids: Sequence[str]) -> None:
    """Reads the bytes of targets that this thread asks for next, in few calls."""
    self._reader.read_ahead(self._positions[id_] for id_ in ids if id_ in self._positions)

  def record(self, id_: str) -> "TargetRecord":
    """The targets of a picture, not yet decoded; DataError when they are absent or damaged."""
    if id_ not in self._positions:
      raise DataError(f"targets {self.root} lack picture {id_!r}; {_AGAIN}")
    data = self._reader.read(self._positions[id_], id_)
    record = TargetRecord(data, self.info.fields, f"targets {self.root} of {id_!r}")
    if record.id != id_:
      raise DataError(f"targets {self.root} hold {record.id!r} in place of {id_!r}; {_AGAIN}")
    return record


class TargetRecord:
  """The targets of one picture: `window` decodes only the tiles it touches.

  Args:
    data: the packed record.
    fields: what is stored.
    where: names the record in errors.
  """

  def __init__(self, data: bytes, fields: Mapping[str, Field], where: str):
    try:
      packed = msgpack.unpackb(data)
      if packed["v"] != FORMAT:
        raise DataError(f"{where}: version {packed['v']}, this program reads {FORMAT}; {_AGAIN}")
      self.id: str = packed["id"]
      self.size: tuple[int, int] = tuple(packed["size"])
      self._pixels = {name: self._stored(packed["fields"][name], fields[name]) for name in fields}
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
      raise DataError(f"{where}: damaged ({error!r}); {_AGAIN}") from error
    self._fields, self._where = fields, where

  def window(self, y0: int, x0: int, y1: int, x1: int) -> dict[str, Map]:
    """The maps, under their names in a batch, of the part [y0, y1) x [x0, x1)."""
    return {
      TARGET if name == LABEL else name: Map(self._values(name, y0, x0, y1, x1), field.fill)
      for name, field in self._fields.items()
      if field.kind == "map"
    }

  def vectors(self) -> dict[str, np.ndarray]:
    """The vectors, uint8 [K] each."""
    vectors = [name for name, field in self._fields.items() if field.kind == "vector"]
    return {name: self._values(name, 0, 0, 1, 1)[0, 0] for name in vectors}

  def _stored(self, packed: dict[str, Any], field: Field) -> StoredPixels:
    size = (1, 1) if field.kind == "vector" else self.size
    return StoredPixels(packed, size, field.channels or 1, self.id)

  def _values(self, name: str, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    try:
      values = self._pixels[name].window(y0, x0, y1, x1)
    except DataError as error:
      raise DataError(f"{self._where}: {name!r} does not decode; {_AGAIN}") from error
    return values if self._fields[name].channels else values[..., 0]


class WithTargets:
  """A picture whose windows carry its targets as maps.

  Raises:
    DataError: the targets are of a picture of another size.
  """

  def __init__(self, picture: Record | Example, targets: TargetRecord):
    self.id, self.size = picture.id, picture.size
    self._picture, self._targets = picture, targets
    if tuple(targets.size) != tuple(picture.size):
      raise DataError(
        f"targets of {picture.id!r} are of size {list(targets.size)}, its picture of "
        f"{list(picture.size)}; {_AGAIN}"
      )

  def window(self, y0: int, x0: int, y1: int, x1: int) -> Example:
    """The part [y0, y1) x [x0, x1) of the picture, with that of the targets."""
    part = self._picture.window(y0, x0, y1, x1)
    return dataclasses.replace(part, maps={**part.maps, **self._targets.window(y0, x0, y1, x1)})


def encode_targets(
  id_: str, values: Mapping[str, np.ndarray], fields: Mapping[str, Field], size: tuple[int, int]
) -> bytes:
  """Packs the targets of a picture of `size`, one array for each field.

  Raises:
    DataError: fields are absent or unknown, or an array is not uint8 of the field's shape.
  """
  problems = [f"field {name!r} is not given" for name in fields if values.get(name) is None]
  given = {name: np.asarray(array) for name, array in values.items() if array is not None}
  problems += [f"field {name!r} is none of these targets" for name in given if name not in fields]
  problems += [
    f"field {name!r}: expected uint8 {list(fields[name].shape(size))}, got {array.dtype} "
    f"{list(array.shape)}"
    for name, array in given.items()
    if name in fields and (array.dtype, array.shape) != (np.uint8, fields[name].shape(size))
  ]
  if problems:
    raise DataError.of_all(f"targets of {id_!r} cannot be stored:", problems)
  packed = {name: _pack(given[name], field, size) for name, field in fields.items()}
  return msgpack.packb({"v": FORMAT, "id": id_, "size": list(size), "fields": packed})


def field_problems(fields: Mapping[str, Field]) -> list[str]:
  """A line on each field that cannot be."""
  problems = [] if fields else ["no fields"]
  for name, field in fields.items():
    if not _NAME.fullmatch(name) or name in _TAKEN or name.endswith("_2"):
      problems.append(f"field {name!r}: choose another name of a-z, 0-9 and _, without _2")
    elif field.problem:
      problems.append(f"field {name!r}: {field.problem}")
    elif name in FIELDS and field != FIELDS[name]:
      problems.append(f"field {name!r} is {FIELDS[name]} everywhere; choose another name")
  return problems


def _pack(values: np.ndarray, field: Field, size: tuple[int, int]) -> dict[str, Any]:
  if field.kind == "vector":
    return store_pixels("zstd", values[None, None], 0)
  return store_pixels("zstd", values.reshape(*size, -1), tile_of(*size))


def _fingerprints(dataset: Dataset | JoinedDataset) -> tuple[str, ...]:
  """Of the datasets whose ids are the same pictures here."""
  own = (dataset.info.fingerprint,)
  return (*own, dataset.first.info.fingerprint) if isinstance(dataset, JoinedDataset) else own


def _load_metadata(path: pathlib.Path) -> dict[str, Any]:
  file = path / METADATA
  if not file.is_file():
    kind = "holds no finished targets" if path.exists() else "does not exist"
    raise DataError(f"{path} {kind}; correct the path, or {_AGAIN}")
  try:
    metadata = json.loads(file.read_text(encoding="utf-8"))
    version = metadata["format"]
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise DataError(f"{file}: damaged ({type(error).__name__}: {error}); {_AGAIN}") from error
  if version != FORMAT:
    raise DataError(f"{file}: format {version}, this program reads {FORMAT}; {_AGAIN}")
  wrong = seals.problem(metadata)
  if wrong:
    raise DataError(f"{file}: {wrong}; {_AGAIN}")
  return metadata


def _to_info(metadata: dict[str, Any]) -> TargetsInfo:
  return TargetsInfo(
    fields={name: Field(**field) for name, field in metadata["fields"].items()},
    classes=tuple(metadata["classes"]),
    ids=tuple(metadata["ids"]),
    sizes=tuple(map(tuple, metadata["sizes"])),
    class_pixels=tuple(metadata["class_pixels"]),
    dataset=metadata["dataset"],
    dataset_name=metadata["dataset_name"],
    fingerprint=metadata["fingerprint"],
    about=metadata["about"],
  )
