"""Adds named lists to a finished dataset."""

import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from semiseg_jax import files, seals
from semiseg_jax.data import known_lists
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.shard_reader import head_of
from semiseg_jax.data.writing.dataset_writer import check_list_name, list_problems
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.progress import track

_LOCK = ".lock"


def add_lists(
  root: str | os.PathLike, lists: Mapping[str, Sequence[str]], *, overwrite: bool = False
) -> None:
  """Stores lists of ids in the dataset at `root`: all of them or none, whenever it is interrupted.

  A run that is reading the dataset is not disturbed; other processes that add lists wait.

  Args:
    root: a finished dataset.
    lists: list name -> ids.
    overwrite: replace lists of these names, which are otherwise an error.

  Raises:
    DataError: naming all that is wrong with names and ids.
    OSError: the folder cannot be written to.
  """
  dataset = Dataset.open(root)
  _check(dataset, lists, overwrite)
  pixels = {name: class_pixels(dataset, ids).sum(0).tolist() for name, ids in lists.items()}
  path = pathlib.Path(dataset.root)
  with files.locked(path / "lists" / _LOCK, lambda: _say_waiting(path)):
    _remove_remains(path)
    fields = json.loads((path / METADATA).read_text(encoding="utf-8"))
    if fields["fingerprint"] != dataset.info.fingerprint:
      raise DataError(f"{path} was prepared anew in the meantime; repeat this command")
    wrong = seals.problem(fields)
    if wrong:
      raise DataError(f"{path / METADATA}: {wrong}; nothing was added")
    stored: dict[str, Any] = fields["list_pixels"]
    # Of earlier versions; where there are digests, a list that was edited keeps that of its ids.
    known = {name: known_lists.digest(ids) for name, ids in dataset.info.lists.items()}
    digests: dict[str, str] = fields.setdefault("list_sha256", known)
    replaced = sorted(stored.keys() & lists.keys())
    if replaced and not overwrite:
      raise DataError(f"{path}: another process added {replaced}; choose other names")
    if replaced:  # cut off between file and counts, a list must be absent rather than wrong
      for name in replaced:
        del stored[name], digests[name]
      _write(path, fields)
    for name, ids in lists.items():
      files.write_text(path / "lists" / f"{name}.txt", "".join(f"{id_}\n" for id_ in ids))
    stored |= pixels
    digests |= {name: known_lists.digest(ids) for name, ids in lists.items()}
    _write(path, fields)


def seal(dataset: Dataset) -> None:
  """Seals the metadata, lists and shards of a finished dataset as they stand.

  Raises:
    OSError: the folder cannot be written to.
  """
  path = pathlib.Path(dataset.root)
  with files.locked(path / "lists" / _LOCK, lambda: _say_waiting(path)):
    fields = json.loads((path / METADATA).read_text(encoding="utf-8"))
    fields["list_sha256"] = {n: known_lists.digest(ids) for n, ids in dataset.info.lists.items()}
    for shard in fields["shards"]:
      shard["head"] = head_of(path / shard["file"])
    _write(path, fields)


def _write(path: pathlib.Path, fields: dict[str, Any]) -> None:
  files.write_text(path / METADATA, json.dumps(seals.sealed(fields), ensure_ascii=False))


def class_pixels(dataset: Dataset, ids: Iterable[str]) -> np.ndarray:
  """Pixels of each class in each picture, int64 [N, K + 1], the last of ignored ones.

  All zero for a picture without a label. Only labels are decoded.
  """
  classes = len(dataset.info.classes)

  def count(index: int) -> np.ndarray:
    label = dataset.record(index).label()
    counts = np.zeros(256, np.int64)
    if label is not None:
      counts += np.bincount(label.reshape(-1), minlength=256)
    return np.append(counts[:classes], counts[IGNORE])

  indices = [dataset.index(id_) for id_ in ids]
  with futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    counts = pool.map(count, indices)
    shown = {"title": "counting labels", "delay": 2, "stream": sys.stderr}
    rows = list(track(counts, total=len(indices), **shown))
  return np.array(rows, np.int64).reshape(-1, classes + 1)


def _check(dataset: Dataset, lists: Mapping[str, Sequence[str]], overwrite: bool) -> None:
  for name in lists:
    check_list_name(name)
  problems = list_problems(lists, frozenset(dataset.info.ids))
  problems += [f"list {name!r} is empty; give at least one id" for name in lists if not lists[name]]
  if not overwrite:
    problems += [
      f"there is a list {name!r} already; choose another name, or ask to overwrite (--overwrite)"
      for name in lists
      if name in dataset.info.lists
    ]
  if problems:
    raise DataError.of_all(f"nothing was added to {dataset.root}:", problems)


def _say_waiting(path: pathlib.Path) -> None:
  print(f"Another process is adding lists to {path}: waiting until it is done.", file=sys.stderr)


def _remove_remains(path: pathlib.Path) -> None:
  """Removes what killed processes left; only under the lock, as others write here."""
  for place in (path, path / "lists"):
    for remains in place.glob(f".*{files.PARTIAL}*"):
      remains.unlink()
