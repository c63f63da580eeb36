"""One shard: records checked against their dataset, written to a file, and what is known of them.

    records-00000.array_record    the records
    records-00000.json            the summary, written last; only until the dataset is finished

A shard without a summary is not finished.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from array_record.python import array_record_module

from semiseg_jax import files, seals, wording
from semiseg_jax.data import records
from semiseg_jax.data.shard_reader import head_of
from semiseg_jax.data.writing.moments import Moments
from semiseg_jax.errors import DataError, DiskError
from semiseg_jax.labels import IGNORE

_NAME = re.compile(r"records-\d{5}\.(json|array_record)")


def shard_file(number: int) -> str:
  """The file name of a dataset's shard."""
  return f"records-{number:05d}.array_record"


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A record ready to be appended: its bytes and what the metadata keeps of it."""

  id: str
  record: bytes
  size: tuple[int, int]
  pixels: np.ndarray | None  # [K + 1] counts, None without a label
  moments: Moments | None = None
  facts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Encoder:
  """What all records of a dataset have in common.

  Attributes:
    classes: K, the number of classes.
    channels: C of every picture.
    codec: one of records.CODECS.
  """

  classes: int
  channels: int
  codec: str

  def encode(
    self,
    id: str,
    image: np.ndarray | bytes,
    label: np.ndarray | None,
    valid: np.ndarray | None = None,
    facts: Mapping[str, int] | None = None,
  ) -> Encoded:
    """Packs one picture, see records.encode_record; DataError for other channels or class ids.

    `valid`, bool [H, W], says which pixels have data, `facts` what the dataset counts, by name.
    """
    check_id(id)
    pixels = records.decode_image(image, id) if isinstance(image, bytes) else image
    data = records.encode_record(id, image, label, self.codec, pixels=pixels, valid=valid)
    packed = records.Record(data)
    if packed.channels != self.channels:
      raise DataError(
        f"picture {id!r} has {wording.counted(packed.channels, 'channel')}, the dataset "
        f"{self.channels}; convert the picture or set the dataset's channels"
      )
    counts = None if label is None else self._count(id, label)
    counted = {**(facts or {}), **({} if valid is None else {"masked": 1})}
    return Encoded(id, data, packed.size, counts, Moments.of(pixels, valid), counted)

  def _count(self, id_: str, label: np.ndarray) -> np.ndarray:
    counts, wrong = count_classes(label, self.classes)
    if wrong:
      raise DataError(
        f"label of {id_!r} has class ids {wrong}; the dataset has classes 0 to "
        f"{self.classes - 1} and {IGNORE} for ignored pixels"
      )
    return counts


@dataclasses.dataclass(frozen=True)
class Entry:
  """A record of a shard: its fields as in Encoded, `digest` the SHA-256 of its bytes."""

  id: str
  size: tuple[int, int]
  pixels: tuple[int, ...] | None
  digest: str
  moments: Moments | None = None
  facts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Shard:
  """A finished shard; `sha256` is that of its file, `key` what it was made from."""

  file: str
  bytes: int
  sha256: str
  key: str
  entries: tuple[Entry, ...]

  def save(self, folder: pathlib.Path) -> None:
    """Writes the summary, whole or not at all."""
    summary = seals.sealed(dataclasses.asdict(self))
    files.write_text(_summary(folder / self.file), json.dumps(summary))

  @classmethod
  def load(cls, path: pathlib.Path, key: str) -> "Shard | None":
    """The finished shard at `path`, None when there is no whole one made from `key`."""
    try:
      fields = json.loads(_summary(path).read_text(encoding="utf-8"))
      if seals.problem(fields, required=True):
        return None
      del fields[seals.SEAL]
      entries = tuple(
        Entry(
          e["id"],
          tuple(e["size"]),
          e["pixels"] and tuple(e["pixels"]),
          e["digest"],
          e["moments"] and Moments(**e["moments"]),
          e["facts"],
        )
        for e in fields["entries"]
      )
      shard = cls(**fields | {"entries": entries})
      whole = path.stat().st_size == shard.bytes
    except (OSError, ValueError, TypeError, KeyError):
      return None
    return shard if whole and shard.key == key else None


class ShardWriter:
  """Writes a shard; nothing appears at `path` before `close`.

  Args:
    path: the shard's file.
    key: what the shard is made from, see Shard.
  """

  def __init__(self, path: pathlib.Path, key: str):
    self._path, self._key = path, key
    self._unfinished = files.partial(path)
    self._entries: list[Entry] = []
    self.filled = 0  # bytes of the records so far
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._unfinished), "group_size:1,uncompressed"
    )

  def append(self, item: Encoded) -> None:
    """Writes a record; DiskError when that fails."""
    self._do(self._writer.write, item.record)
    pixels = None if item.pixels is None else tuple(item.pixels.tolist())
    digest = hashlib.sha256(item.record).hexdigest()
    entry = Entry(item.id, item.size, pixels, digest, item.moments, item.facts)
    self._entries.append(entry)
    self.filled += len(item.record)

  def close(self) -> Shard:
    """Finishes the file and its summary; DiskError when that fails."""
    self._do(self._writer.close)
    size = self._unfinished.stat().st_size
    sha256 = hash_file(self._unfinished)
    files.commit(self._unfinished, self._path)
    shard = Shard(self._path.name, size, sha256, self._key, tuple(self._entries))
    shard.save(self._path.parent)
    return shard

  def discard(self) -> None:
    """Removes an unfinished file."""
    if self._writer.is_open():
      try:
        self._writer.close()
      except RuntimeError:  # the disk is full, which is why it is discarded
        pass
    self._unfinished.unlink(missing_ok=True)

  def _do(self, work: Any, *arguments: Any) -> None:
    try:
      work(*arguments)
    except RuntimeError as error:  # what ArrayRecord makes of all trouble with files
      reason = str(error).split(";")[0]
      raise DiskError(f"cannot write {self._path}: {reason}; check its disk") from error


class Shards:
  """The records of a folder: one shard after the other, a new one where the last is full.

  Args:
    folder: where the shards are written.
    key: what they are made from, see Shard.
    shard_bytes: a shard that has reached this size is full.

  Attributes:
    entries: by id, those of finished shards.
  """

  def __init__(self, folder: pathlib.Path, key: str, shard_bytes: int):
    self._folder, self._key, self._shard_bytes = folder, key, shard_bytes
    self.entries: dict[str, Entry] = {}
    self._finished: list[Shard] = []
    self._writer: ShardWriter | None = None
    self._added: set[str] = set()

  def __contains__(self, id_: str) -> bool:
    return id_ in self._added

  def append(self, item: Encoded) -> None:
    """Writes a record; DiskError when that fails."""
    if self._writer is None:
      self._writer = ShardWriter(self._folder / shard_file(len(self._finished)), self._key)
    self._writer.append(item)
    self._added.add(item.id)
    if self._writer.filled >= self._shard_bytes:
      self.close()

  def adopt(self, shard: Shard) -> None:
    """Takes a finished shard of the folder as the next one."""
    self._finished.append(shard)
    self.entries |= {entry.id: entry for entry in shard.entries}

  def close(self) -> None:
    """Finishes the last shard; DiskError when that fails."""
    if self._writer is not None:
      self.adopt(self._writer.close())
      self._writer = None

  def discard(self) -> None:
    """Removes the shard that is not finished."""
    if self._writer is not None:
      self._writer.discard()

  def metadata(self) -> dict[str, Any]:
    """What the metadata of a folder says of its shards and records, in their order."""
    entries = list(self.entries.values())
    return {
      "shards": [
        {
          "file": shard.file,
          "records": len(shard.entries),
          "bytes": shard.bytes,
          "sha256": shard.sha256,
          "head": head_of(self._folder / shard.file),
        }
        for shard in self._finished
      ],
      "sizes": [entry.size for entry in entries],
      "ids": [entry.id for entry in entries],
    }


def fingerprint(kind: str, digests: Iterable[str]) -> str:
  """SHA-256 over what the records have in common and the SHA-256 of each, all in hexadecimal."""
  total = hashlib.sha256(kind.encode())
  for digest in digests:
    total.update(bytes.fromhex(digest))
  return total.hexdigest()


def check_id(id_: str) -> None:
  """DataError when an id cannot stand in a list file."""
  if not id_ or id_ != id_.strip() or len(id_.splitlines()) != 1:
    raise DataError(f"id {id_!r} cannot stand on a line of a list; rename the picture")


def count_classes(label: np.ndarray, classes: int) -> tuple[np.ndarray, list[int]]:
  """Pixel counts [K + 1] of a uint8 label, the last of ignored pixels, and wrong ids."""
  counts = np.bincount(label.reshape(-1), minlength=256)
  wrong = [int(v) for v in np.flatnonzero(counts[:IGNORE]) if v >= classes]
  return np.append(counts[:classes], counts[IGNORE]), wrong


def hash_file(path: pathlib.Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def remove_unfinished(folder: pathlib.Path) -> None:
  """Removes what killed processes left in a folder of shards."""
  for path in folder.iterdir():
    if path.is_file() and not _NAME.fullmatch(path.name):
      path.unlink()


def remove_summaries(folder: pathlib.Path) -> None:
  """Removes the summaries, which a finished dataset does not need."""
  for path in folder.glob("records-*.json"):
    path.unlink()


def _summary(path: pathlib.Path) -> pathlib.Path:
  return path.with_suffix(".json")
