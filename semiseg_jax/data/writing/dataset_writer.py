"""Writes a dataset folder, which appears under its name only when it is complete."""

import collections
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semiseg_jax import files
from semiseg_jax.data import known_lists
from semiseg_jax.data.dataset import FORMAT
from semiseg_jax.data.records import CODECS
from semiseg_jax.data.writing import moments, shards
from semiseg_jax.data.writing.shards import Encoder, Shard, Shards
from semiseg_jax.data.writing.staging import Staging, check_text
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

LIST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Words with a meaning where a config names a list.
NO_LIST_NAMES = ("rest", "all", "none", "stored")
_NOT_CONTINUED = "single"


class DatasetWriter:
  """Writes a dataset; nothing appears at `root` before the `with` block ends without an error.

    with DatasetWriter("data/toy", name="toy", classes=names, colors=colors, channels=3) as writer:
      writer.add("scene_0", image=image, label=label)
      writer.lists(train=ids, val=other_ids)

  Records stand in the order of `add`, so equal calls give equal bytes. Instead of `add`, finished
  shards of `folder` can be handed to `adopt`, which is how several processes write one dataset.

  Args:
    root: the dataset's folder.
    name, classes, colors, channels, source_ignore_id, source_ids, codec: see DatasetInfo.
    overwrite: replace a finished dataset at `root`, which is otherwise a DataError.
    shard_bytes: a new shard is begun when one has reached this size.
    key: what the dataset is made from. When given, finished shards survive an error that is no
      DataError, and are found in `folder` by the next writer with this key.
    reading: how its files became pictures, see DatasetInfo.
    statistics: whether mean and std of the training pictures are stored, and so are what networks
      without pretrained weights normalize by.
    say: is told of waiting for another process, and of remains.
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
    source_ids: Sequence[int] = (),
    codec: str = "keep",
    overwrite: bool = False,
    shard_bytes: int = 256 << 20,
    key: str = _NOT_CONTINUED,
    reading: Mapping[str, Any] | None = None,
    statistics: bool = False,
    say: Callable[[str], None] = print,
  ):
    self._name, self._classes, self._colors = name, tuple(classes), tuple(map(tuple, colors))
    self._source_ignore_id, self._key = source_ignore_id, key
    self._reading, self._statistics = dict(reading or {}), statistics
    self._source_ids = tuple(source_ids)
    self._check_arguments(codec)
    self.encoder = Encoder(len(self._classes), channels, codec)
    self._staging = Staging(root, key=key, overwrite=overwrite, say=say)
    self._shards = Shards(self.folder, key, shard_bytes)
    self._lists: dict[str, tuple[str, ...]] = {}

  @property
  def folder(self) -> pathlib.Path:
    """Where shards are written while the `with` block lasts."""
    return self._staging.partial

  def __enter__(self) -> "DatasetWriter":
    self._staging.__enter__()
    if self._key == _NOT_CONTINUED:
      self._staging.discard()
      self.folder.mkdir()
    shards.remove_unfinished(self.folder)
    self._found = any(self.folder.iterdir())
    return self

  def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
    try:
      if kind is None:
        self._shards.close()
        self._finish()
    except BaseException as failure:
      kind = type(failure)
      raise
    finally:
      if kind is not None:
        self._clean_up(kind)
      self._staging.__exit__(kind, error, trace)

  def add(
    self,
    id: str,
    *,
    image: np.ndarray | None = None,
    encoded: bytes | None = None,
    label: np.ndarray | None = None,
    valid: np.ndarray | None = None,
  ) -> None:
    """Appends a picture: `image` uint8 [H, W, C] or `encoded` file bytes; `label` uint8 [H, W].

    `valid`, bool [H, W], says which pixels have data; None: all.

    Raises DataError for wrong shapes, channels, class ids, or an id that is already there.
    """
    if (image is None) == (encoded is None):
      raise TypeError("give either image or encoded")
    if id in self._shards:
      raise DataError(f"id {id!r} was added twice; ids must be unique, rename one picture")
    picture = encoded if image is None else image
    self._shards.append(self.encoder.encode(id, picture, label, valid))

  def adopt(self, shard: Shard) -> None:
    """Appends a finished shard of `folder`."""
    self._shards.adopt(shard)

  def lists(self, **lists: Sequence[str]) -> None:
    """Stores named lists of ids, checked when the dataset is finished."""
    for name, ids in lists.items():
      check_list_name(name)
      self._lists[name] = tuple(ids)

  def class_pixels(self) -> dict[str, np.ndarray | None]:
    """Id -> pixels of each class and of ignored ones [K + 1] of what was added; None: no label."""
    return {
      id_: None if entry.pixels is None else np.asarray(entry.pixels, np.int64)
      for id_, entry in self._shards.entries.items()
    }

  def _check_arguments(self, codec: str) -> None:
    if not 1 <= len(self._classes) <= IGNORE:
      raise DataError(f"{len(self._classes)} classes; a dataset has 1 to {IGNORE}")
    if len(set(self._classes)) != len(self._classes):
      twice = [c for c, n in collections.Counter(self._classes).items() if n > 1]
      raise DataError(f"class names {twice} occur twice; rename them")
    if len(self._colors) != len(self._classes):
      raise DataError(
        f"{counted(len(self._colors), 'color')} for "
        f"{counted(len(self._classes), 'class', 'classes')}; give one each"
      )
    check_text({"name": self._name, "classes": self._classes})
    if codec not in CODECS:
      raise DataError(f"codec {codec!r}: choose one of {', '.join(CODECS)}")

  def _clean_up(self, kind: type) -> None:
    """Keeps finished shards for the next writer of the same key, and removes everything else.

    An error of the data removes them too: the data will be another.  But shards that an earlier
    writer left stay.
    """
    self._shards.discard()
    lasting = self._key != _NOT_CONTINUED and (self._found or not issubclass(kind, DataError))
    if not lasting or not any(self.folder.glob("*.json")):
      self._staging.discard()

  def _finish(self) -> None:
    if not self._shards.entries:
      raise DataError(
        f"no pictures were added to {self._staging.root}; check the folder of pictures"
      )
    problems = list_problems(self._lists, self._shards.entries)
    if problems:
      raise DataError.of_all(f"the lists of {self._staging.root} cannot be used:", problems)
    lists = self.folder / "lists"
    lists.mkdir(exist_ok=True)
    for name, ids in self._lists.items():
      file = lists / f"{name}.txt"
      file.write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")
      files.flush(file)
    files.flush(lists)
    self._staging.finish(self._metadata())

  def _metadata(self) -> dict[str, Any]:
    entries = self._shards.entries.values()
    return {
      "format": FORMAT,
      "name": self._name,
      "classes": self._classes,
      "colors": self._colors,
      "source_ignore_id": self._source_ignore_id,
      "source_ids": self._source_ids,
      "channels": self.encoder.channels,
      "codec": self.encoder.codec,
      "class_pixels": self._sum_pixels(self._shards.entries),
      "list_pixels": {name: self._sum_pixels(ids) for name, ids in self._lists.items()},
      "list_sha256": {name: known_lists.digest(ids) for name, ids in self._lists.items()},
      "fingerprint": fingerprint(
        self._classes, self.encoder.channels, (entry.digest for entry in entries)
      ),
      "labeled": "".join("01"[entry.pixels is not None] for entry in entries),
      "reading": self._reading,
      "facts": self._sum_facts(),
      "statistics": self._measure() if self._statistics else None,
      **self._shards.metadata(),
    }

  def _sum_facts(self) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for entry in self._shards.entries.values():
      total.update(entry.facts)
    return dict(sorted(total.items()))

  def _measure(self) -> dict[str, Any] | None:
    """Mean and std of the list 'train', or of all pictures that are on no list of evaluation."""
    entries = self._shards.entries
    evaluated = {id_ for name in ("val", "test") for id_ in self._lists.get(name, ())}
    chosen = self._lists.get("train") or [id_ for id_ in entries if id_ not in evaluated]
    return moments.statistics(entries[id_].moments for id_ in chosen)

  def _sum_pixels(self, ids: Iterable[str]) -> list[int]:
    total = np.zeros(len(self._classes) + 1, np.int64)
    for id_ in ids:
      if self._shards.entries[id_].pixels is not None:
        total += self._shards.entries[id_].pixels
    return total.tolist()


def fingerprint(classes: Sequence[str], channels: int, digests: Iterable[str]) -> str:
  """SHA-256 over classes, channels and the SHA-256 of each record, all in hexadecimal."""
  return shards.fingerprint(repr((tuple(classes), channels)), digests)


def check_list_name(name: str) -> None:
  """DataError when a list of a dataset cannot have this name."""
  if not LIST_NAME.fullmatch(name):
    raise DataError(f"list name {name!r}: use letters, digits, '_', '-' and '.' only")
  if name in NO_LIST_NAMES:
    raise DataError(
      f"list name {name!r}: a training config gives {', '.join(NO_LIST_NAMES)} meanings of their "
      "own; choose another name"
    )


def list_problems(lists: Mapping[str, Sequence[str]], ids: Collection[str]) -> list[str]:
  """A line on each id of a list that is not among `ids`, or is repeated."""
  problems = []
  for name, members in lists.items():
    for id_, times in collections.Counter(members).items():
      if id_ not in ids:
        problems.append(f"list {name!r} names {id_!r}, which is no picture here; correct the list")
      if times > 1:
        problems.append(f"list {name!r} names {id_!r} {times} times; remove the repetition")
  return problems
