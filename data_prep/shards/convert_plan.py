"""The plan of a preparation: items cut into shards beforehand, and a key of what these hold."""

import dataclasses
import hashlib
import json
import pathlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import zstandard

from semiseg_jax.data import records
from semiseg_jax.data.dataset import FORMAT
from semiseg_jax.data.writing import shards
from semiseg_jax.data.writing.shards import Encoder, Shard

SHARD_BYTES = 256 << 20
_SMALL_SHARD_BYTES = 8 << 20
_SHARDS = 16  # enough to share out among the processes
_GROWTH = {"keep": 1.0, "jpeg95": 0.2, "raw": 2.8}  # stored bytes per byte of a photo's PNG


class Item(Protocol):
  """One picture of a source: a frozen dataclass that pickles.

  Attributes:
    id: unique, and what lists name it by.
    bytes: size of its source, from which the size of the shards is planned.
    stamp: changes when the source does (times of change, checksums of archive members); equal ids,
      bytes and stamps make a killed preparation go on with what it had.
  """

  id: str
  bytes: int
  stamp: str


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A picture that was read from its source.

  Attributes:
    image: uint8 [H, W, C], or the bytes of its JPEG, PNG or WebP file.
    label: uint8 [H, W].
    valid: bool [H, W], which pixels have data; None when all have.
    facts: what is counted over the dataset, by name.
  """

  image: np.ndarray | bytes
  label: np.ndarray | None
  valid: np.ndarray | None = None
  facts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Part:
  """The items of one shard."""

  number: int
  items: tuple[Item, ...]


@dataclasses.dataclass(frozen=True)
class Job:
  """What is the same for all parts: where the shards go, and how their records are made."""

  folder: str
  key: str
  encoder: Encoder
  load: Callable[[Item], Loaded]

  def path(self, part: Part) -> pathlib.Path:
    """The file of a part's shard."""
    return pathlib.Path(self.folder, shards.shard_file(part.number))

  def find(self, part: Part) -> Shard | None:
    """The part's shard if it is finished."""
    return Shard.load(self.path(part), self.key)


def plan_parts(items: Sequence[Item], codec: str) -> list[Part]:
  """Cuts the items into shards of about SHARD_BYTES, smaller ones when these would be few."""
  sizes = [item.bytes * _GROWTH[codec] for item in items]
  aim = min(SHARD_BYTES, max(_SMALL_SHARD_BYTES, sum(sizes) / _SHARDS))
  parts: list[list[Item]] = []
  filled = aim
  for item, size in zip(items, sizes):
    if filled >= aim:
      parts.append([])
      filled = 0
    parts[-1].append(item)
    filled += size
  return [Part(number, tuple(members)) for number, members in enumerate(parts)]


def make_key(parts: Sequence[Part], load: Callable[[Item], Loaded], options: Any) -> str:
  """A digest of all that the records follow from, as part of a file name.

  Args:
    parts: the plan.
    load: with its arguments, hence pickled.
    options: of the records, as JSON can hold it.
  """
  versions = (FORMAT, records.VERSION, cv2.__version__, zstandard.__version__)
  sources = [[(item.id, item.bytes, item.stamp) for item in part.items] for part in parts]
  text = json.dumps((versions, options, sources))
  return hashlib.sha256(text.encode() + pickle.dumps(load)).hexdigest()[:16]
