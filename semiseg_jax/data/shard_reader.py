"""Records of a folder of ArrayRecord shards, by number."""

import bisect
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from array_record.python import array_record_module

from semiseg_jax.errors import DataError

HEAD = 4096  # bytes; they hold ArrayRecord's own digest of the first record
_AT_ONCE = 16  # files that are looked at, for disks that answer late


@dataclasses.dataclass(frozen=True)
class ShardInfo:
  """A file of records: its name, number of records, size in bytes, SHA-256 in hexadecimal.

  `head` is the SHA-256 of its first HEAD bytes, "" of earlier versions.
  """

  file: str
  records: int
  bytes: int
  sha256: str
  head: str = ""


class ShardReader:
  """Reads from several threads; files are opened when they are first needed.

  Args:
    root: the folder.
    shards: its files, in the order of the records.
    mend: what to do about a damaged record, for messages.
  """

  def __init__(self, root: str, shards: Sequence[ShardInfo], mend: str):
    self._root, self._shards, self._mend = root, tuple(shards), mend
    self._ends = list(itertools.accumulate(shard.records for shard in shards))
    self._readers: dict[int, Any] = {}
    self._lock = threading.Lock()

  def read(self, index: int, id_: str) -> bytes:
    """The bytes of record `index`, which errors call `id_`; DataError when they are damaged."""
    shard = bisect.bisect_right(self._ends, index)
    first = self._ends[shard] - self._shards[shard].records
    reader = self._reader(shard)
    try:
      return reader.read([index - first])[0]
    except (RuntimeError, IndexError) as error:
      raise DataError(
        f"record {index} ({id_!r}) of {self._root}/{self._shards[shard].file} is damaged "
        f"({error}); {self._mend}"
      ) from error

  def file(self, index: int) -> str:
    """The path of the shard that holds record `index`."""
    return os.path.join(self._root, self._shards[bisect.bisect_right(self._ends, index)].file)

  def _reader(self, shard: int) -> Any:
    with self._lock:
      if shard not in self._readers:
        path = os.path.join(self._root, self._shards[shard].file)
        self._readers[shard] = array_record_module.ArrayRecordReader(
          path, "readahead_buffer_size:0"
        )
      return self._readers[shard]


def damage(root: pathlib.Path, shards: Sequence[ShardInfo], *, heads: bool = True) -> list[str]:
  """A line on each file that is missing, has another size, or (`heads`) begins otherwise."""
  look = functools.partial(_damage, root, heads)
  with concurrent.futures.ThreadPoolExecutor(min(_AT_ONCE, max(len(shards), 1))) as pool:
    return list(itertools.chain.from_iterable(pool.map(look, shards)))


def head_of(file: pathlib.Path) -> str:
  """The SHA-256 of a file's first HEAD bytes, in hexadecimal."""
  with file.open("rb") as opened:
    return hashlib.sha256(opened.read(HEAD)).hexdigest()


def _damage(root: pathlib.Path, heads: bool, shard: ShardInfo) -> list[str]:
  file = root / shard.file
  size = file.stat().st_size if file.is_file() else None
  if size is None:
    return [f"{file}: missing"]
  if size != shard.bytes:
    return [f"{file}: {size} bytes instead of {shard.bytes}"]
  if heads and shard.head and head_of(file) != shard.head:
    return [f"{file}: other records than were written: it was exchanged, or is damaged"]
  return []
