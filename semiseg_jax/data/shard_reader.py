"""Records of a folder of ArrayRecord shards, by number."""

import bisect
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import threading
from collections.abc import Iterable, Sequence
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
    self._ahead = _Ahead()

  def read_ahead(self, indices: Iterable[int]) -> None:
    """Reads records that this thread is about to `read`, those of a shard in one call.

    A call costs a mounted bucket tens of milliseconds, and in one call ArrayRecord reads side by
    side.  What cannot be read is left to `read`, which names it.
    """
    by_shard: dict[int, list[int]] = {}
    self._ahead.uses = collections.Counter(indices)
    for index in sorted(self._ahead.uses):
      by_shard.setdefault(bisect.bisect_right(self._ends, index), []).append(index)
    self._ahead.records = {}
    for shard, within in by_shard.items():
      first = self._ends[shard] - self._shards[shard].records
      with contextlib.suppress(RuntimeError, IndexError):
        found = self._reader(shard).read([index - first for index in within])
        self._ahead.records.update(zip(within, found, strict=True))

  def read(self, index: int, id_: str) -> bytes:
    """The bytes of record `index`, which errors call `id_`; DataError when they are damaged."""
    ahead = self._ahead.take(index)
    if ahead is not None:
      return ahead
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


class _Ahead(threading.local):
  """Of each thread: the bytes of records that are about to be read, and how often each will be."""

  def __init__(self):
    self.records: dict[int, bytes] = {}
    self.uses: collections.Counter[int] = collections.Counter()

  def take(self, index: int) -> bytes | None:
    """Returns the bytes of a record, and drops them with their last use."""
    self.uses[index] -= 1
    return self.records.get(index) if self.uses[index] > 0 else self.records.pop(index, None)


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
