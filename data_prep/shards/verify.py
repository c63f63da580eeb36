"""Reads everything in a dataset and compares it with what its metadata say."""

import collections
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from data_prep.shards import workers as processes
from data_prep.shards.workers import Progress
from semiseg_jax.data import known_lists
from semiseg_jax.data.dataset import METADATA, Dataset, DatasetInfo
from semiseg_jax.data.records import Record
from semiseg_jax.data.writing import shards
from semiseg_jax.data.writing.dataset_writer import fingerprint
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted


@dataclasses.dataclass(frozen=True)
class _Part:
  """A shard: its number, and those of its first record and the one after its last."""

  shard: int
  first: int
  end: int


@dataclasses.dataclass(frozen=True)
class _Found:
  """What was read of a shard: per record its SHA-256 and pixel counts, None if there are none."""

  problems: list[str]
  digests: list[str | None]
  pixels: list[np.ndarray | None]


def verify(dataset: Dataset, workers: int) -> list[str]:
  """Everything that is wrong with a dataset: each damaged shard and record, each wrong count.

  Args:
    dataset: every record of it is decoded, and every byte hashed.
    workers: number of processes, 0 for none besides this one.
  """
  ends = list(itertools.accumulate(shard.records for shard in dataset.shards))
  parts = [
    _Part(number, end - shard.records, end)
    for number, (shard, end) in enumerate(zip(dataset.shards, ends))
  ]
  with processes.counter(len(dataset), "verifying") as bar:
    work = functools.partial(_verify_shard, dataset)
    found = processes.run(work, parts, workers, bar)
  problems = [problem for part in found for problem in part.problems]
  # Sums over records of which some cannot be read would only repeat that.
  return problems or _compare_sums(dataset.info, found)


def _verify_shard(dataset: Dataset, part: _Part, progress: Progress) -> _Found:
  shard = dataset.shards[part.shard]
  found = _Found([], [], [])
  for index in range(part.first, part.end):
    if progress.stopped:
      break
    _verify_record(dataset, index, shard.file, found)
    progress.count()
  if len(found.digests) > 1 and not any(found.digests):
    found.problems[:] = [f"{shard.file}: none of its {shard.records} records can be read"]
  if shards.hash_file(pathlib.Path(dataset.root, shard.file)) != shard.sha256:
    found.problems.insert(0, f"{shard.file}: not the bytes that were written (SHA-256 differs)")
  return found


def _verify_record(dataset: Dataset, index: int, file: str, found: _Found) -> None:
  info, digest, pixels = dataset.info, None, None
  name = f"{file}, record {index} ({info.ids[index]!r})"
  try:
    data = dataset.raw(index)
    digest = hashlib.sha256(data).hexdigest()
    record = Record(data, info.masked)
    for what, stored, stated in (
      ("id", record.id, info.ids[index]),
      ("size", tuple(record.size), info.sizes[index]),
      ("channels", record.channels, info.channels),
      ("labeled", record.labeled, info.labeled[index]),
    ):
      if stored != stated:
        found.problems.append(f"{name}: {what} {stored!r}, in the metadata {stated!r}")
    label = record.example().label
    if label is not None:
      pixels, wrong = shards.count_classes(label, len(info.classes))
      if wrong:
        found.problems.append(
          f"{name}: class ids {wrong} outside the {counted(len(info.classes), 'class', 'classes')}"
        )
  except DataError as error:
    found.problems.append(f"{name}: {error.__cause__ or error}")
  found.digests.append(digest)
  found.pixels.append(pixels)


def _compare_sums(info: DatasetInfo, found: Sequence[_Found]) -> list[str]:
  pixels = dict(zip(info.ids, itertools.chain.from_iterable(part.pixels for part in found)))
  digests = itertools.chain.from_iterable(part.digests for part in found)
  problems = []
  if fingerprint(info.classes, info.channels, digests) != info.fingerprint:
    problems.append("the fingerprint in the metadata is not that of the records")
  if _sum(info, pixels, info.ids) != info.class_pixels:
    problems.append("the pixels of the classes in the metadata are not those of the labels")
  for name, ids in info.lists.items():
    unknown = [id_ for id_ in ids if id_ not in pixels]
    repeated = [id_ for id_, times in collections.Counter(ids).items() if times > 1]
    problems += [f"list {name!r} names {id_!r}, which is not in the dataset" for id_ in unknown]
    problems += [f"list {name!r} names {id_!r} more than once" for id_ in repeated]
    if not unknown and _sum(info, pixels, ids) != info.list_pixels[name]:
      problems.append(f"the pixels of list {name!r} in the metadata are not those of its labels")
  return problems


def seal_problems(dataset: Dataset) -> list[str]:
  """A line on metadata that are not those that were sealed, and on each edited list."""
  info, wrong = dataset.info, dataset.seal_problem()
  problems = [f"{METADATA}: {wrong}"] if wrong else []
  return problems + [
    f"list {name!r} has other ids than were stored: it was edited, or is damaged"
    for name, ids in info.lists.items()
    if known_lists.digest(ids) != info.list_sha256.get(name, known_lists.digest(ids))
  ]


def _sum(
  info: DatasetInfo, pixels: dict[str, np.ndarray | None], ids: Sequence[str]
) -> tuple[int, ...]:
  total = np.zeros(len(info.classes) + 1, np.int64)
  for id_ in ids:
    if pixels[id_] is not None:
      total += pixels[id_]
  return tuple(total.tolist())
