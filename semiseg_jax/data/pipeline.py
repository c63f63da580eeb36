"""Training batches as a pure function of (dataset, streams, seed, step).

Batch t of a stream is rows [tB, (t+1)B) of an endless sequence: its ids, shuffled anew for every
epoch from (seed, name, epoch). The augmentation of a row is drawn from (seed, name, row). So a run
started at step t sees what an uninterrupted one saw there, and neither the number of worker
processes nor that of processes changes anything.
"""

import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags

from semiseg_jax.data import shared_blocks
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import Record
from semiseg_jax.data.targets import Targets, WithTargets
from semiseg_jax.errors import DataError

Augment = Callable[[Record | WithTargets, np.random.Generator], dict[str, np.ndarray]]
Batch = dict[str, dict[str, np.ndarray]]

_STEPS = 1 << 40  # "endless": far beyond any run, and an index that grain can handle
_DEATH = "Worker process was terminated"  # what grain says of a reader that is gone
_SHUFFLE, _AUGMENT = 0, 1  # first seed words, which keep the two uses apart


@dataclasses.dataclass(frozen=True)
class StreamSpec:
  """One stream of pictures.

  Attributes:
    name: its key in the batch; seeds the augmentation.
    ids: the pictures, in any fixed order.
    batch: rows per step over all processes.
    shuffle_seed_name: seeds the order. Two streams with the same ids, batch and this name get the
      same pictures with different augmentations ('same_image' CutMix), otherwise use `name`.
    augment: (record, rng) -> arrays of one shape for all pictures; must pickle.
    targets: stored targets of these pictures, None for none.
  """

  name: str
  ids: tuple[str, ...]
  batch: int
  shuffle_seed_name: str
  augment: Augment
  targets: Targets | None = None


def make_batches(
  dataset: Dataset,
  streams: Sequence[StreamSpec],
  *,
  seed: int,
  start_step: int,
  rows: Callable[[int], slice],
  workers: int,
) -> Iterator[Batch]:
  """Endless batches from `start_step` on.

  Args:
    dataset: where the pictures are.
    streams: what a batch consists of.
    seed: the run's seed, not negative.
    start_step: number of the first batch, that is of updates already made.
    rows: global batch size -> this process's rows of it.
    workers: 0 reads in two threads of this process; above 0 is that number of processes, for which
      the caller's main module must be guarded by `if __name__ == '__main__'`; batches pass through
      shared memory (/dev/shm), which must hold about four of them per worker.

  Returns:
    An iterator over {stream: fields of its augment, each [rows, ...], and 'index', int32 [rows],
    the record numbers}. Its `close()` ends threads and processes. A stream with targets also has,
    each uint8: 'target' [rows, h, w] of the field `label`, IGNORE in the padding, further maps
    under their own names ('confidence' [rows, h, w], 0 in the padding), both with the crop, scale
    and flip of the picture, and vectors [rows, K]. A second crop has its maps under NAME_2.

  Raises:
    DataError: an id that the dataset or the targets lack, targets of another dataset, an empty
      stream; from the iterator: a damaged record, a worker that was killed.
  """
  shared_blocks.remove_dead()
  source = _Steps(dataset, streams, seed, rows)
  steps = grain.MapDataset.source(source)[start_step:]
  if not workers:
    # OpenCV's own threads would fight with these; the setting holds for the whole process.
    cv2.setNumThreads(1)
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
  if not flags.FLAGS.is_parsed():  # grain reads absl flags, and fails outside of app.run
    flags.FLAGS.mark_as_parsed()
  batches = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
  options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
  start = functools.partial(_start_worker, run=shared_blocks.of_this_process())
  return _Copied(iter(batches.mp_prefetch(options, worker_init_fn=start)))


def epoch_order(seed: int, name: str, epoch: int, count: int) -> np.ndarray:
  """The permutation of [0, count) that an epoch of a stream goes through."""
  words = (_SHUFFLE, seed, zlib.crc32(name.encode()), epoch)
  return np.random.default_rng(words).permutation(count)


class _Steps:
  """Grain's view of the data: element t is this process's part of batch t."""

  def __init__(
    self, dataset: Dataset, streams: Sequence[StreamSpec], seed: int, rows: Callable[[int], slice]
  ):
    self._dataset, self._streams, self._seed = dataset, tuple(streams), seed
    self._rows = {s.name: range(s.batch)[rows(s.batch)] for s in streams}
    self._indices = {s.name: _indices(dataset, s) for s in streams}

  def __len__(self) -> int:
    return _STEPS

  def __getitem__(self, step: int) -> Batch:
    self._read_ahead(int(step))
    return {stream.name: self._part(stream, int(step)) for stream in self._streams}

  def _read_ahead(self, step: int) -> None:
    """An element is a batch: its records are read together, as by `__getitems__` of single ones."""
    every: list[int] = []
    for stream in self._streams:
      rows = self._rows[stream.name]
      indices = [self._index(stream, step * stream.batch + row) for row in rows]
      every += indices
      if stream.targets is not None:
        stream.targets.read_ahead([self._dataset.info.ids[index] for index in indices])
    self._dataset.read_ahead(every)

  def _index(self, stream: StreamSpec, position: int) -> int:
    """The record number of a row of the endless sequence."""
    indices = self._indices[stream.name]
    epoch, place = divmod(position, len(indices))
    order = _cached_order(self._seed, stream.shuffle_seed_name, epoch, len(indices))
    return indices[order[place]]

  def _part(self, stream: StreamSpec, step: int) -> dict[str, np.ndarray]:
    rows = self._rows[stream.name]
    part: dict[str, np.ndarray] = {}
    for place, row in enumerate(rows):
      # One at a time: the memory of an example is used again for the next one.
      for field, value in self._example(stream, step * stream.batch + row).items():
        if not place:
          part[field] = np.empty((len(rows), *np.shape(value)), value.dtype)
        part[field][place] = value
    return part

  def _example(self, stream: StreamSpec, position: int) -> dict[str, np.ndarray]:
    index = self._index(stream, position)
    words = (_AUGMENT, self._seed, zlib.crc32(stream.name.encode()), position)
    picture, vectors = self._dataset.record(int(index)), {}
    if stream.targets is not None:
      targets = stream.targets.record(self._dataset.info.ids[index])
      picture, vectors = WithTargets(picture, targets), targets.vectors()
    example = stream.augment(picture, np.random.default_rng(words))
    return example | vectors | {"index": index}


class _Copied:
  """Batches of worker processes, copied out of shared memory so that it is freed at once.

  A device may hold the arrays of a batch until Python's next garbage collection, on a CPU even as
  its own buffers. Shared memory would fill up in the meantime.
  """

  def __init__(self, batches: Any):
    self._batches = batches

  def __iter__(self) -> "_Copied":
    return self

  def __next__(self) -> Batch:
    try:
      batch = next(self._batches)
    except RuntimeError as error:
      if _DEATH not in str(error):
        raise
      raise DataError(
        f"a process that reads pictures is gone ({str(error).split('.')[0]}): -9 means killed, "
        "perhaps for want of memory, -7 that /dev/shm is full (of a container: --shm-size); use "
        "fewer (--config.data.workers)"
      ) from error
    return {
      stream: {field: np.array(values) for field, values in fields.items()}
      for stream, fields in batch.items()
    }

  def close(self) -> None:
    """Ends the processes."""
    self._batches.close()


# Threads work on neighboring batches of a few streams: each needs the epoch it is in and the next.
_cached_order = functools.lru_cache(maxsize=16)(epoch_order)


def _indices(dataset: Dataset, stream: StreamSpec) -> np.ndarray:
  if not stream.ids:
    raise DataError(f"stream {stream.name!r} has no pictures; check its list")
  if stream.targets is not None:
    stream.targets.check(dataset, stream.ids)
  return np.array([dataset.index(id_) for id_ in stream.ids], np.int32)


def _start_worker(worker: int, workers: int, *, run: str | None) -> None:
  del worker, workers
  shared_blocks.name_blocks(run)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
  threading.Thread(target=_end_with_main_process, name="watch", daemon=True).start()
  cv2.setNumThreads(1)
  os.environ["OMP_NUM_THREADS"] = "1"


def _end_with_main_process() -> None:
  """Ends this worker when the main process is gone, also when that was killed without a word.

  The last process to go takes the blocks of shared memory along (multiprocessing's tracker); where
  that was killed too, the next start does (`shared_blocks`).
  """
  multiprocessing.parent_process().join()
  os._exit(1)
