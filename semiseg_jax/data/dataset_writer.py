"""Writes a dataset folder, which appears under its name only when it is complete."""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module

from semiseg_jax.data import records
from semiseg_jax.data.dataset import FORMAT, METADATA
from semiseg_jax.data.records import DataError
from semiseg_jax.labels import IGNORE

LIST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
NO_LIST_NAMES = ("rest", "all", "none")  # words with a meaning where a config names a list


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A record ready to be appended: its bytes and what the metadata keeps of it."""

  id: str
  record: bytes
  size: tuple[int, int]
  channels: int
  pixels: np.ndarray | None  # [K + 1] counts, None without a label


class DatasetWriter:
  """Writes a dataset; nothing appears at `root` before the `with` block ends without an error.

    with DatasetWriter("data/toy", name="toy", classes=names, colors=colors, channels=3) as writer:
      writer.add("scene_0", image=image, label=label)
      writer.lists(train=ids, val=other_ids)

  Records stand in the order of `add`, so equal calls give equal bytes. `encode` is free of side
  effects and may run in threads; `append` then takes its results in order.

  Args:
    root: the dataset's folder.
    name, classes, colors, channels, source_ignore_id: see DatasetInfo.
    overwrite: replace a finished dataset at `root`, which is otherwise a DataError.
    shard_bytes: a new shard is begun when one has reached this size.
  """

  def __init__(
    self,
    root: str | os.PathLike,
    *,
    name: str,
    classes: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    channels: int = 3,
    source_ignore_id: int | None = None,
    overwrite: bool = False,
    shard_bytes: int = 256 << 20,
  ):
    self._root = pathlib.Path(root).absolute()
    self._name, self._classes, self._colors = name, tuple(classes), tuple(map(tuple, colors))
    self._channels, self._source_ignore_id = channels, source_ignore_id
    self._overwrite, self._shard_bytes = overwrite, shard_bytes
    self._items: dict[str, Encoded] = {}
    self._lists: dict[str, tuple[str, ...]] = {}
    self._shards: list[dict[str, Any]] = []
    self._shard_writer = None
    self._filled = 0
    self._hash = hashlib.sha256(repr((self._classes, channels)).encode())
    self._check_arguments()

  def __enter__(self) -> "DatasetWriter":
    self._partial = _beside(self._root, "partial")
    try:
      self._root.parent.mkdir(parents=True, exist_ok=True)
      _remove_abandoned(self._root)
      shutil.rmtree(self._partial, ignore_errors=True)
      (self._partial / "lists").mkdir(parents=True)
    except OSError as error:
      raise DataError(
        f"cannot write to {self._root} ({error}); choose another folder or mend its permissions"
      ) from error
    return self

  def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
    try:
      self._close_shard()
      if kind is None:
        self._finish()
    finally:
      shutil.rmtree(self._partial, ignore_errors=True)

  def add(
    self,
    id: str,
    *,
    image: np.ndarray | None = None,
    encoded: bytes | None = None,
    label: np.ndarray | None = None,
  ) -> None:
    """Appends a picture: `image` uint8 [H, W, C] or `encoded` file bytes; `label` uint8 [H, W]."""
    self.append(self.encode(id, image=image, encoded=encoded, label=label))

  def encode(
    self,
    id: str,
    *,
    image: np.ndarray | None = None,
    encoded: bytes | None = None,
    label: np.ndarray | None = None,
  ) -> Encoded:
    """What `add` appends. Raises DataError for wrong shapes, channels or class ids."""
    if (image is None) == (encoded is None):
      raise TypeError("give either image or encoded")
    if not id or id != id.strip() or len(id.splitlines()) != 1:
      raise DataError(f"id {id!r} cannot stand on a line of a list; rename the picture")
    data = records.encode_record(id, encoded if image is None else image, label)
    packed = records.Record(data)
    if packed.channels != self._channels:
      raise DataError(
        f"picture {id!r} has {packed.channels} channels, the dataset "
        f"{self._channels}; convert the picture or set the dataset's channels"
      )
    pixels = None if label is None else self._count(id, label)
    return Encoded(id, data, packed.size, packed.channels, pixels)

  def append(self, item: Encoded) -> None:
    """Writes an encoded record; DataError when its id is already there."""
    if item.id in self._items:
      raise DataError(f"id {item.id!r} was added twice; ids must be unique, rename one picture")
    if self._shard_writer is None:
      self._open_shard()
    self._shard_writer.write(item.record)
    self._hash.update(hashlib.sha256(item.record).digest())
    self._items[item.id] = dataclasses.replace(item, record=b"")
    self._shards[-1]["records"] += 1
    self._filled += len(item.record)
    if self._filled >= self._shard_bytes:
      self._close_shard()

  def lists(self, **lists: Sequence[str]) -> None:
    """Stores named lists of ids, checked when the dataset is finished."""
    for name, ids in lists.items():
      check_list_name(name)
      self._lists[name] = tuple(ids)

  def _check_arguments(self) -> None:
    if not 1 <= len(self._classes) <= IGNORE:
      raise DataError(f"{len(self._classes)} classes; a dataset has 1 to {IGNORE}")
    if len(set(self._classes)) != len(self._classes):
      twice = [c for c, n in collections.Counter(self._classes).items() if n > 1]
      raise DataError(f"class names {twice} occur twice; rename them")
    if len(self._colors) != len(self._classes):
      raise DataError(f"{len(self._colors)} colors for {len(self._classes)} classes; give one each")
    if not self._root.exists() or (self._root.is_dir() and not any(self._root.iterdir())):
      return
    if not (self._root / METADATA).is_file():
      raise DataError(
        f"{self._root} exists and is no dataset, so it is not overwritten; choose another folder"
      )
    if not self._overwrite:
      raise DataError(f"{self._root} exists; choose another folder, remove it, or ask to overwrite")

  def _count(self, id_: str, label: np.ndarray) -> np.ndarray:
    counts = np.bincount(label.reshape(-1), minlength=256)
    known = len(self._classes)
    wrong = [int(v) for v in np.flatnonzero(counts[:IGNORE]) if v >= known]
    if wrong:
      raise DataError(
        f"label of {id_!r} has class ids {wrong}; the dataset has classes 0 to "
        f"{known - 1} and {IGNORE} for ignored pixels"
      )
    return np.append(counts[:known], counts[IGNORE])

  def _open_shard(self) -> None:
    file = f"records-{len(self._shards):05d}.array_record"
    self._shards.append({"file": file, "records": 0})
    self._filled = 0
    self._shard_writer = array_record_module.ArrayRecordWriter(
      str(self._partial / file), "group_size:1,uncompressed"
    )

  def _close_shard(self) -> None:
    if self._shard_writer is not None:
      self._shard_writer.close()
      self._shard_writer = None
      self._shards[-1]["bytes"] = (self._partial / self._shards[-1]["file"]).stat().st_size

  def _finish(self) -> None:
    if not self._items:
      raise DataError(f"no pictures were added to {self._root}; check the folder of pictures")
    for name, ids in self._lists.items():
      self._check_list(name, ids)
      text = "".join(f"{id_}\n" for id_ in ids)
      (self._partial / "lists" / f"{name}.txt").write_text(text, encoding="utf-8")
    metadata = json.dumps(self._metadata(), ensure_ascii=False)
    (self._partial / METADATA).write_text(metadata, encoding="utf-8")
    _flush(self._partial)
    self._move_into_place()

  def _check_list(self, name: str, ids: Sequence[str]) -> None:
    for id_, times in collections.Counter(ids).items():
      if id_ not in self._items:
        raise DataError(f"list {name!r} names {id_!r}, which was not added; correct the list")
      if times > 1:
        raise DataError(f"list {name!r} names {id_!r} {times} times; remove the repetition")

  def _metadata(self) -> dict[str, Any]:
    items = list(self._items.values())
    return {
      "format": FORMAT,
      "name": self._name,
      "classes": self._classes,
      "colors": self._colors,
      "source_ignore_id": self._source_ignore_id,
      "channels": self._channels,
      "class_pixels": self._sum_pixels(self._items),
      "list_pixels": {name: self._sum_pixels(ids) for name, ids in self._lists.items()},
      "fingerprint": self._hash.hexdigest(),
      "shards": self._shards,
      "labeled": "".join("01"[item.pixels is not None] for item in items),
      "sizes": [item.size for item in items],
      "ids": [item.id for item in items],
    }

  def _sum_pixels(self, ids: Sequence[str] | Mapping[str, Encoded]) -> list[int]:
    total = np.zeros(len(self._classes) + 1, np.int64)
    for id_ in ids:
      if self._items[id_].pixels is not None:
        total += self._items[id_].pixels
    return total.tolist()

  def _move_into_place(self) -> None:
    old = _beside(self._root, "old")
    if self._overwrite and self._root.exists():
      self._root.rename(old)
    try:
      self._partial.rename(self._root)
    except OSError as error:
      raise DataError(
        f"{self._root} appeared while it was being prepared; another process made "
        "it, use or remove it"
      ) from error
    shutil.rmtree(old, ignore_errors=True)


def check_list_name(name: str) -> None:
  """DataError when a list of a dataset cannot have this name."""
  if not LIST_NAME.fullmatch(name):
    raise DataError(f"list name {name!r}: use letters, digits, '_', '-' and '.' only")
  if name in NO_LIST_NAMES:
    raise DataError(
      f"list name {name!r}: a training config gives {', '.join(NO_LIST_NAMES)} meanings of their "
      "own; choose another name"
    )


def _beside(root: pathlib.Path, purpose: str) -> pathlib.Path:
  return root.with_name(f".{root.name}.{purpose}-{socket.gethostname()}-{os.getpid()}")


def _remove_abandoned(root: pathlib.Path) -> None:
  """Removes what killed processes of this host left; another host's may still be running."""
  prefix = f".{root.name}.partial-{socket.gethostname()}-"
  for path in root.parent.iterdir():
    pid = path.name.removeprefix(prefix)
    if path.name.startswith(prefix) and pid.isdigit() and not _runs(int(pid)):
      shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _flush(folder: pathlib.Path) -> None:
  """Forces the files to the disk: a rename must not survive a power cut that the data do not."""
  for path in [p for p in folder.rglob("*") if p.is_file()] + [folder / "lists", folder]:
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
