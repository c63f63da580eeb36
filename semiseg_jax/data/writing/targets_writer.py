"""Writes a folder of stored targets, which appears under its name only when it is complete."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.targets import (
  FIELDS,
  FORMAT,
  LABEL,
  METADATA,
  Field,
  encode_targets,
  field_problems,
)
from semiseg_jax.data.writing import shards
from semiseg_jax.data.writing.shards import Encoded, Shards
from semiseg_jax.data.writing.staging import Staging, check_text
from semiseg_jax.errors import DataError

_KEY = "targets"


class TargetsWriter:
  """Writes targets; nothing appears at `folder` before the `with` block ends without an error.

    with TargetsWriter("runs/a/targets", dataset=pool, about={"run": "a", "step": 400}) as writer:
      writer.add("scene_0", label=label, confidence=confidence)

  A writer that was killed leaves a hidden folder, which the next one removes. Records stand in the
  order of `add`, so equal calls give equal bytes. A second writer of the same folder waits.

  Args:
    folder: where the targets will be.
    dataset: whose pictures the ids name.
    about: who made the targets, plain JSON values.
    fields: what is stored of each picture.
    overwrite: replace finished targets in `folder`, which are otherwise a DataError.
    shard_bytes: a new shard is begun when one has reached this size.
    say: is told of waiting for another process, and of remains.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    dataset: Dataset | JoinedDataset,
    about: Mapping[str, Any],
    fields: Mapping[str, Field] = FIELDS,
    overwrite: bool = False,
    shard_bytes: int = 256 << 20,
    say: Callable[[str], None] = print,
  ):
    problems = field_problems(fields)
    if problems:
      raise DataError.of_all(f"targets {folder} cannot have these fields:", problems)
    check_text(dict(about))
    self._dataset, self._about, self._fields = dataset, json.loads(json.dumps(about)), dict(fields)
    self._staging = Staging(folder, key=_KEY, overwrite=overwrite, say=say, metadata=METADATA)
    self._shards = Shards(self._staging.partial, _KEY, shard_bytes)

  def __enter__(self) -> "TargetsWriter":
    self._staging.__enter__()
    self._staging.discard()
    self._staging.partial.mkdir()
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
        self._clean_up()
      self._staging.__exit__(kind, error, trace)

  def add(self, id_: str, **values: np.ndarray | None) -> None:
    """Appends a picture's targets: one uint8 array for each field, None for no such field.

    Args:
      id_: the picture's id in the dataset.
      **values: of maps [H, W] or [H, W, K] with the picture's size, of vectors [K].

    Raises:
      DataError: an id that the dataset lacks or that was added before, wrong fields, types, shapes
        or class ids.
    """
    size = self._size(id_)
    data = encode_targets(id_, values, self._fields, size)
    counts = self._count(id_, values[LABEL]) if LABEL in self._fields else None
    self._shards.append(Encoded(id_, data, size, counts))

  def _size(self, id_: str) -> tuple[int, int]:
    """(H, W) of the picture."""
    if id_ in self._shards:
      raise DataError(f"targets of {id_!r} were added twice; add each picture once")
    index, sizes = self._dataset.index(id_), self._dataset.info.sizes
    known = len(sizes) == len(self._dataset)  # not of a tfds build
    return tuple(sizes[index] if known else self._dataset.record(index).size)

  def _count(self, id_: str, label: np.ndarray) -> np.ndarray:
    classes = len(self._dataset.info.classes)
    counts, wrong = shards.count_classes(label, classes)
    if wrong:
      raise DataError(
        f"targets of {id_!r} have class ids {wrong}; the dataset has classes 0 to {classes - 1}"
      )
    return counts

  def _clean_up(self) -> None:
    self._shards.discard()
    self._staging.discard()

  def _finish(self) -> None:
    if not self._shards.entries:
      raise DataError(f"no targets were added to {self._staging.root}; check the list of pictures")
    self._staging.finish(self._metadata())

  def _metadata(self) -> dict[str, Any]:
    info, entries = self._dataset.info, self._shards.entries.values()
    fields = {name: dataclasses.asdict(field) for name, field in self._fields.items()}
    counts = [entry.pixels for entry in entries if entry.pixels is not None]
    return {
      "format": FORMAT,
      "about": self._about,
      "dataset_name": info.name,
      "dataset": info.fingerprint,
      "fields": fields,
      "classes": info.classes,
      "class_pixels": np.sum(counts, axis=0, dtype=np.int64).tolist() if counts else [],
      "fingerprint": _fingerprint(fields, info.classes, (entry.digest for entry in entries)),
      **self._shards.metadata(),
    }


def _fingerprint(fields: Mapping[str, Any], classes: Iterable[str], digests: Iterable[str]) -> str:
  return shards.fingerprint(json.dumps([fields, list(classes)], sort_keys=True), digests)
