"""Sources of any kind -> a dataset, by several processes: what every preparation has in common.

    info = convert(out, items, load, name=..., ..., workers=4, overwrite=False)
    report(info, out)

`items` says what there is, `load` reads one of them. Which picture goes into which shard follows
from the items alone, and each shard is written by one process, so the bytes of a dataset do not
depend on the number of workers. A killed preparation goes on with the shards that were not done.
"""

import argparse
import collections
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.shards import workers as processes
from data_prep.shards.convert_plan import Item, Job, Loaded, Part, make_key, plan_parts
from data_prep.shards.convert_shard import make_shard
from semiseg_jax.data.dataset import Dataset, DatasetInfo
from semiseg_jax.data.records import CODECS
from semiseg_jax.data.writing.dataset_writer import DatasetWriter, check_list_name, list_problems
from semiseg_jax.errors import DataError, DiskError
from semiseg_jax.wording import counted


def convert(
  out: str | os.PathLike,
  items: Sequence[Item],
  load: Callable[[Item], Loaded],
  *,
  name: str,
  classes: Sequence[str],
  colors: Sequence[tuple[int, int, int]],
  channels: int,
  source_ignore_id: int | None,
  source_ids: Sequence[int] = (),
  lists: Mapping[str, Sequence[str]],
  workers: int,
  overwrite: bool,
  codec: str = "keep",
  problems: Sequence[str] = (),
  relist: Callable[[Mapping[str, np.ndarray | None]], Mapping[str, Sequence[str]]] | None = None,
  reading: Mapping[str, Any] | None = None,
  statistics: bool = True,
  say: Callable[[str], None] = print,
) -> DatasetInfo:
  """Writes the dataset `out`, which appears only when it is complete.

  Args:
    out: the dataset's folder.
    items: the pictures, in the order of the records.
    load: reads an item; picklable (a function of a module, or a functools.partial of one), as it
      runs in the workers. Raises DataError, a line for each problem of the item.
    name, classes, colors, channels, source_ignore_id, source_ids: see DatasetInfo.
    lists: named lists of ids.
    workers: number of processes; 0 for none besides this one. The result does not depend on it.
    overwrite: replace a finished dataset at `out`, which is otherwise a DataError.
    codec: one of records.CODECS.
    problems: what is already known to be wrong; the items are then read only to find what else is.
    relist: makes the lists anew from `DatasetWriter.class_pixels`, which are known in the end.
    reading, statistics: see DatasetWriter.
    say: is told of shards that were already done, and the like.

  Raises:
    DataError: everything that is wrong, in one message; a place that cannot be written to; a disk
      that is full, whereupon the same command goes on when there is room.
  """
  items = list(items)
  if codec == "jpeg95":
    say(
      "WARNING: --codec jpeg95 is lossy: pixels differ from the source's, by about one gray level "
      "on average; compare results only with those of the same codec."
    )
  for list_name in lists:
    check_list_name(list_name)
  problems = [*problems, *_problems_of(items, lists)]
  parts = plan_parts(items, codec)
  key = make_key(parts, load, (tuple(classes), channels, codec))
  writer = DatasetWriter(
    out,
    name=name,
    classes=classes,
    colors=colors,
    channels=channels,
    source_ignore_id=source_ignore_id,
    source_ids=source_ids,
    codec=codec,
    overwrite=overwrite,
    key=key,
    reading=reading,
    statistics=statistics,
    say=say,
  )
  try:
    with writer:
      job = Job(str(writer.folder), key, writer.encoder, load)
      problems += _make_shards(job, parts, workers, bool(problems), pathlib.Path(out).name, say)
      if problems:
        raise source_error(problems)
      for part in parts:
        writer.adopt(job.find(part))
      writer.lists(**(relist(writer.class_pixels()) if relist else lists))
  except KeyboardInterrupt:
    say(f"Interrupted; start the same command again to go on{_kept(writer)}.")
    raise
  except (OSError, DiskError) as error:
    raise DataError(
      f"{out} was not finished: {error}; mend that and start the same command again{_kept(writer)}"
    ) from error
  return Dataset.open(out).info


def _make_shards(
  job: Job,
  parts: Sequence[Part],
  workers: int,
  only_check: bool,
  title: str,
  say: Callable[[str], None],
) -> list[str]:
  """Makes the shards that are not done; returns what is wrong with their items."""
  missing = [part for part in parts if job.find(part) is None]
  done = len(parts) - len(missing)
  if done:
    say(
      f"{done} of {counted(len(parts), 'shard')} {'was' if done == 1 else 'were'} already done, "
      "kept."
    )
  total, left = (sum(len(part.items) for part in some) for some in (parts, missing))
  with processes.counter(total, f"preparing {title}", total - left) as bar:
    found = processes.run(functools.partial(make_shard, job), missing, workers, bar, only_check)
  return [problem for problems in found for problem in problems]


def _kept(writer: DatasetWriter) -> str:
  if not writer.folder.exists():
    return ""
  return f" (the shards that are done are kept in {writer.folder})"


def source_error(problems: Sequence[str]) -> DataError:
  """One error of all that is wrong with a source."""
  count = counted(len(problems), "problem")
  return DataError.of_all(f"{count} with the source files, nothing was written:", problems)


def report(info: DatasetInfo, out: str | os.PathLike, say: Callable[[str], None] = print) -> None:
  """Says what is in a dataset, and which classes its lists lack."""
  say(
    f"{out}: {counted(len(info.ids), 'picture')} of {counted(info.channels, 'channel')}, "
    f"{sum(info.labeled)} with a "
    f"label, {counted(len(info.classes), 'class', 'classes')}"
  )
  for name, ids in sorted(info.lists.items()):
    absent = [c for c, n in zip(info.classes, info.list_pixels[name]) if not n]
    say(f"  list {name}: {counted(len(ids), 'picture')}")
    if absent and any(info.list_pixels[name]):
      say(f"  NOTE: no label in list {name} shows: {', '.join(absent)}")


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags --workers, --codec and --overwrite, which every preparation has."""
  processes.add_flag(parser)
  parser.add_argument(
    "--codec",
    choices=tuple(CODECS),
    default="keep",
    help="how pictures are stored (%(default)s). "
    + "; ".join(f"{key}: {text}" for key, text in CODECS.items()),
  )
  parser.add_argument("--overwrite", action="store_true", help="replace the dataset at --out")


def _problems_of(items: Sequence[Item], lists: Mapping[str, Sequence[str]]) -> list[str]:
  counts = collections.Counter(item.id for item in items)
  problems = [
    f"id {id_!r} stands for {times} pictures; ids must be unique, rename all but one"
    for id_, times in counts.items()
    if times > 1
  ]
  problems += [
    f"list {name!r} is empty; give at least one id, or leave the list out"
    for name, ids in lists.items()
    if not ids
  ]
  return problems + list_problems(lists, counts)
