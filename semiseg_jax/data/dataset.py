"""A dataset: a folder of ArrayRecord shards and `dataset.json`, with named lists of ids.

    ROOT/dataset.json             name, classes, colors, ids, sizes, counts, shards, fingerprint
    ROOT/records-00000.array_record ...
    ROOT/lists/NAME.txt           one id per line

The folder appears under its name only when it is complete: it is written beside its place, as
`.NAME.partial-KEY`, and renamed at the end.

`dataset.json` carries a seal (`semiseg_jax.seals`), and in it the SHA-256 of every list, of every
shard, and of the first HEAD bytes of every shard.  Compared are: when a dataset is opened the seal
and each shard's size and first bytes; when a list is used its ids; when a record is read its id,
size, channels and whether it has a label; before step 0 of a run (`shard_digests`) and by
`data_prep.inspect` every byte.  Datasets of earlier versions have no seal; of those the sizes, what
a record says, and every byte before step 0, are compared.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from semiseg_jax import seals
from semiseg_jax.arguments import command
from semiseg_jax.data import records
from semiseg_jax.data.records import Example
from semiseg_jax.data.shard_reader import ShardInfo, ShardReader, damage
from semiseg_jax.errors import DataError

FORMAT = 2
METADATA = "dataset.json"


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """What is known of a dataset without reading its shards.

  Attributes:
    name: the dataset's name.
    classes: K names; colors: K triples 0..255.
    source_ignore_id: the ignore id in the source's labels (IGNORE in the shards), None if none.
    channels: C of every picture.
    ids, sizes, labeled: per record, in record order; sizes are (H, W).
    class_pixels: K + 1 pixel counts over all labels, the last of ignored pixels.
    lists: the named lists of ids; list_pixels: `class_pixels` of each; list_sha256: as stored, of
      the ids each followed by a newline, {} of earlier versions.
    fingerprint: SHA-256 over classes and all records, in hexadecimal.
    codec: how pictures are stored, see records.CODECS; 'jpeg95' is lossy.
    reading: how files became its pictures, as arguments of `pictures.read_picture`.
    facts: pictures and pixels that preparation counted, by name: 'turned' pictures, those with
      pixels without data ('with_nodata'), those of them that say which ('masked') and these
      pixels ('nodata').
    statistics: 'mean' and 'std' of each channel of the training pictures, as shares of 255; None
      where they were not measured.
    source_ids: per class, its id in the source's masks; () where there is none, or unknown.
  """

  name: str
  classes: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]
  source_ignore_id: int | None
  channels: int
  ids: tuple[str, ...]
  sizes: tuple[tuple[int, int], ...]
  labeled: tuple[bool, ...]
  class_pixels: tuple[int, ...]
  lists: dict[str, tuple[str, ...]]
  list_pixels: dict[str, tuple[int, ...]]
  fingerprint: str
  codec: str
  reading: dict[str, Any] = dataclasses.field(default_factory=dict)
  facts: dict[str, int] = dataclasses.field(default_factory=dict)
  statistics: dict[str, Any] | None = None
  source_ids: tuple[int, ...] = ()
  list_sha256: dict[str, str] = dataclasses.field(default_factory=dict)

  @property
  def masked(self) -> bool:
    """Whether records say which of their pixels have data."""
    return self.facts.get("masked", 0) > 0

  @property
  def mean(self) -> tuple[float, ...]:
    """Of each channel of the training pictures, as a share of 255; () where it was not measured."""
    return tuple((self.statistics or {}).get("mean", ()))

  @property
  def std(self) -> tuple[float, ...]:
    """As `mean`."""
    return tuple((self.statistics or {}).get("std", ()))


class Dataset:
  """A finished dataset; cheap to open and to pickle, safe to read from several threads."""

  def __init__(self, root: str, info: DatasetInfo, shards: tuple[ShardInfo, ...]):
    self.root, self.info, self.shards = root, info, shards
    self._reader = ShardReader(root, shards, "prepare the dataset again")

  @classmethod
  def open(cls, root: str | os.PathLike, *, sealed: bool = True) -> "Dataset":
    """Opens the dataset at `root`; DataError when it is missing, unfinished or damaged.

    `sealed` False: whatever its seals are, for who looks at what is damaged.
    """
    path = pathlib.Path(root).absolute()
    fields = _load_metadata(path)
    wrong = seals.problem(fields)
    if wrong and sealed:
      raise DataError(
        f"{path / METADATA}: {wrong}; put the file back as it was, or prepare the dataset again "
        f"(`python -m data_prep.inspect {path}` says what is damaged; with --seal it accepts an "
        "edit, such as of the name, where the records agree)"
      )
    try:
      shards = tuple(ShardInfo(**shard) for shard in fields["shards"])
      info = _to_info(path, fields)
    except (KeyError, TypeError, AttributeError) as error:
      raise DataError(
        f"{path / METADATA}: damaged ({error!r}); prepare the dataset again"
      ) from error
    damaged = damage(path, shards, heads=sealed)
    if damaged:
      raise DataError.of_all(f"{path} is damaged, prepare it again:", damaged)
    counts = {len(info.ids), len(info.sizes), len(info.labeled), sum(s.records for s in shards)}
    if len(counts) > 1:
      raise DataError(
        f"{path / METADATA}: damaged (numbers of records {sorted(counts)}); prepare it again"
      )
    return cls(str(path), info, shards)

  def seal_problem(self) -> str:
    """What is wrong with the seal of the metadata, "" where nothing is, or there is none."""
    return seals.problem(_load_metadata(pathlib.Path(self.root)))

  def __len__(self) -> int:
    return len(self.info.ids)

  def __getstate__(self) -> dict[str, Any]:
    return {"root": self.root, "info": self.info, "shards": self.shards}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__init__(**state)

  @functools.cached_property
  def _positions(self) -> dict[str, int]:
    return {id_: index for index, id_ in enumerate(self.info.ids)}

  def index(self, id_: str) -> int:
    """The record number of an id; DataError names an id that is not here."""
    if id_ not in self._positions:
      raise DataError(
        f"id {id_!r} is not in dataset {self.info.name!r} ({self.root}); correct the "
        "list or prepare the dataset with this picture"
      )
    return self._positions[id_]

  def raw(self, index: int) -> bytes:
    """The bytes of record `index`; DataError when they are damaged."""
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)} in {self.root}")
    return self._reader.read(index, self.info.ids[index])

  def read_ahead(self, indices: Sequence[int]) -> None:
    """Reads the bytes of records that this thread asks for next, in few calls."""
    self._reader.read_ahead(indices)

  def record(self, index: int) -> records.Record:
    """Record `index`, not yet decoded."""
    record = records.Record(self.raw(index), self.info.masked)
    info = self.info
    stored = (record.id, record.size, record.channels, record.labeled)
    stated = (info.ids[index], info.sizes[index], info.channels, info.labeled[index])
    if stored != stated:
      raise DataError(
        f"record {index} of {self._reader.file(index)} is not the one asked for: {_of(stored)} in "
        f"place of {_of(stated)}; shards or metadata were exchanged (`python -m data_prep.inspect "
        f"{self.root}` names all that are wrong): prepare the dataset again"
      )
    return record

  def read(self, index: int) -> Example:
    """Record `index`, decoded whole."""
    return self.record(index).example()


def _of(record: tuple[str, tuple[int, int], int, bool]) -> str:
  id_, (height, width), channels, labeled = record
  return f"{id_!r} ({width}x{height}, {channels} channels, {'a' if labeled else 'no'} label)"


def _load_metadata(path: pathlib.Path) -> dict[str, Any]:
  file = path / METADATA
  how = (
    f"make it with `{command('data_prep.folder')}` (own pictures) or another module of data_prep, "
    "or correct the path"
  )
  if not file.is_file():
    kind = "holds no finished dataset" if path.exists() else "does not exist"
    raise DataError(f"{path} {kind}; {how}")
  try:
    fields = json.loads(file.read_text(encoding="utf-8"))
    version = fields["format"]
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    reason = f"{type(error).__name__}: {error}"
    raise DataError(f"{file}: damaged ({reason}); prepare the dataset again") from error
  if version != FORMAT:
    raise DataError(
      f"{file}: format {version}, this program reads {FORMAT}; prepare the dataset again"
    )
  return fields


def _to_info(path: pathlib.Path, fields: dict[str, Any]) -> DatasetInfo:
  return DatasetInfo(
    name=fields["name"],
    classes=tuple(fields["classes"]),
    colors=tuple(map(tuple, fields["colors"])),
    source_ignore_id=fields["source_ignore_id"],
    channels=fields["channels"],
    ids=tuple(fields["ids"]),
    sizes=tuple(map(tuple, fields["sizes"])),
    labeled=tuple(flag == "1" for flag in fields["labeled"]),
    class_pixels=tuple(fields["class_pixels"]),
    lists={
      name: tuple(_read_lines(path / "lists" / f"{name}.txt")) for name in fields["list_pixels"]
    },
    list_pixels={name: tuple(counts) for name, counts in fields["list_pixels"].items()},
    fingerprint=fields["fingerprint"],
    codec=fields["codec"],
    # What follows is of later versions.
    reading=fields.get("reading", {}),
    facts=fields.get("facts", {}),
    statistics=fields.get("statistics"),
    source_ids=tuple(fields.get("source_ids", ())),
    list_sha256=dict(fields.get("list_sha256", {})),
  )


def _read_lines(file: pathlib.Path) -> list[str]:
  if not file.is_file():
    raise DataError(f"{file}: missing; the dataset is damaged, prepare it again")
  try:
    *lines, rest = file.read_text(encoding="utf-8").split("\n")
  except UnicodeDecodeError as error:
    raise DataError(f"{file}: damaged ({error}); prepare the dataset again") from error
  if rest:
    raise DataError(
      f"{file}: its last line is cut off or was edited; prepare the dataset again (own lists are "
      "given as files, or added by data_prep.splits)"
    )
  return lines
