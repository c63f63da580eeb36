"""Records of a folder of ArrayRecord shards, by number."""

import bisect
import dataclasses
import itertools
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from array_record.python import array_record_module

from semiseg_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class ShardInfo:
  """A file of records: its name, number of records, size in bytes, SHA-256 in hexadecimal."""

  file: str
  records: int
  bytes: int
  sha256: str


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

  def _reader(self, shard: int) -> Any:
    with self._lock:
      if shard not in self._readers:
        path = os.path.join(self._root, self._shards[shard].file)
        self._readers[shard] = array_record_module.ArrayRecordReader(
          path, "readahead_buffer_size:0"
        )
      return self._readers[shard]


def damage(root: pathlib.Path, shards: Sequence[ShardInfo]) -> list[str]:
  """A line on each file that is missing or has another size."""
  return [line for shard in shards for line in _damage(root / shard.file, shard)]


def _damage(file: pathlib.Path, shard: ShardInfo) -> list[str]:
  size = file.stat().st_size if file.is_file() else None
  if size is None:
    return [f"{file}: missing"]
  return [f"{file}: {size} bytes instead of {shard.bytes}"] if size != shard.bytes else []
