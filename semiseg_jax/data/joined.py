"""Two datasets as one: the pictures of a run, and more unlabeled ones from a second folder."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

from semiseg_jax.data.dataset import Dataset, DatasetInfo
from semiseg_jax.data.records import Example, Record, masked
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted


class JoinedDataset:
  """The records of `first` and, after them, those of `second`.

  Lists, classes and name are those of the first. An id of the second that the first has too becomes
  NAME/ID with the second's name, so that it is another picture. Labels of the second are hidden
  unless both have the same classes.

  Raises:
    DataError: twice the same dataset, pictures of different channels or ranges of values, or ids
      that collide in spite of the prefix.
  """

  def __init__(self, first: Dataset, second: Dataset):
    one, two = first.info, second.info
    if one.channels != two.channels:
      raise DataError(
        f"dataset {two.name!r} ({second.root}) has pictures of {counted(two.channels, 'channel')}, "
        f"{one.name!r} ({first.root}) of {one.channels}; prepare it with --channels {one.channels}"
      )
    if one.fingerprint == two.fingerprint:
      raise DataError(
        f"data.unlabeled_root: {second.root} holds the pictures of {first.root} themselves; leave "
        "it empty, data.unlabeled can name any list of the one dataset"
      )
    ranges = [info.reading.get("value_range") for info in (one, two)]
    if None not in ranges and ranges[0] != ranges[1]:
      raise DataError(
        f"dataset {two.name!r} ({second.root}) was prepared with --value_range {ranges[1]}, "
        f"{one.name!r} with {ranges[0]}: equal values would look different; prepare one again"
      )
    self.first, self.second = first, second
    self._hides = one.classes != two.classes
    if len(self._positions) < len(self):
      raise DataError(
        f"ids of {first.root} look like {two.name}/ID of {second.root}; rename that dataset"
      )

  def __getstate__(self) -> dict[str, Dataset]:
    return {"first": self.first, "second": self.second}

  def __setstate__(self, state: dict[str, Dataset]) -> None:
    self.__init__(**state)

  def __len__(self) -> int:
    return len(self.first) + len(self.second)

  @property
  def root(self) -> str:
    """Where the records are, for messages."""
    return f"{self.first.root} and {self.second.root}"

  @functools.cached_property
  def shared_ids(self) -> tuple[str, ...]:
    """Ids that both datasets use."""
    there = set(self.first.info.ids)
    return tuple(id_ for id_ in self.second.info.ids if id_ in there)

  @functools.cached_property
  def info(self) -> DatasetInfo:
    """That of the first, with the records of both."""
    one, two = self.first.info, self.second.info
    both = hashlib.sha256(f"{one.fingerprint}{two.fingerprint}".encode()).hexdigest()
    return dataclasses.replace(
      one,
      ids=one.ids + self.of_second(two.ids),
      sizes=one.sizes + two.sizes,
      labeled=one.labeled + ((False,) * len(two.ids) if self._hides else two.labeled),
      fingerprint=both,
    )

  def of_second(self, ids: Sequence[str]) -> tuple[str, ...]:
    """The ids here of pictures of the second dataset."""
    shared = set(self.shared_ids)
    prefix = f"{self.second.info.name}/"
    return tuple(prefix + id_ if id_ in shared else id_ for id_ in ids)

  @functools.cached_property
  def _positions(self) -> dict[str, int]:
    return {id_: index for index, id_ in enumerate(self.info.ids)}

  def index(self, id_: str) -> int:
    """The record number of an id; DataError names an id that is in neither dataset."""
    if id_ not in self._positions:
      raise DataError(f"id {id_!r} is neither in {self.first.root} nor in {self.second.root}")
    return self._positions[id_]

  def read_ahead(self, indices: Sequence[int]) -> None:
    """As that of a dataset."""
    count = len(self.first)
    self.first.read_ahead([index for index in indices if index < count])
    self.second.read_ahead([index - count for index in indices if index >= count])

  def record(self, index: int) -> "Record | Example | _Unlabeled":
    """Record `index`, not yet decoded where its dataset can leave it so."""
    count = len(self.first)
    record = self.first.record(index) if index < count else self.second.record(index - count)
    if self.first.info.masked or self.second.info.masked:
      record = masked(record)
    if index < count:
      return record
    return _Unlabeled(self.info.ids[index], record) if self._hides else record

  def read(self, index: int) -> Example:
    """Record `index`, decoded whole."""
    record = self.record(index)
    return record.window(0, 0, *record.size)


class _Unlabeled:
  """What of a record the augmentation reads, without its label."""

  def __init__(self, id_: str, record: Record | Example):
    self.id, self.size, self._record = id_, record.size, record

  def window(self, y0: int, x0: int, y1: int, x1: int) -> Example:
    part = self._record.window(y0, x0, y1, x1)
    return Example(self.id, part.image, None, part.maps)
