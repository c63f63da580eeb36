"""Pictures one after the other, from a dataset or a folder."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from semiseg_jax import memory
from semiseg_jax.data import orientation, picture_sizes
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.known_lists import digest
from semiseg_jax.data.pictures import read_picture
from semiseg_jax.data.records import HAS_DATA
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import chosen_files
from semiseg_jax.evaluation.run import read_ahead, sizes_of
from semiseg_jax.evaluation.windows import Segmenter, Size


@dataclasses.dataclass(frozen=True)
class Seen:
  """A picture that was read.

  Attributes:
    id: an id of the dataset, or a path.
    image: uint8 [H,W,C].
    label: uint8 [H,W], None where there is none.
    valid: bool [H,W], which pixels have data; None when all have.
  """

  id: str
  image: np.ndarray
  label: np.ndarray | None = None
  valid: np.ndarray | None = None


class Source(Protocol):
  """Pictures by their ids, and what is wrong with those that cannot be read.

  Attributes:
    ids: of all pictures.  failures: a line for each that could not be read, by its id.
    about: what results keep of it, plain JSON values.
  """

  ids: tuple[str, ...]
  failures: dict[str, str]
  about: dict[str, Any]

  def read(self, ids: Sequence[str]) -> Iterator[Seen]:
    """Yields pictures in order, while the next are read; leaves out those that cannot be."""

  def sizes(self, ids: Sequence[str]) -> list[Size]:
    """Returns the sizes (H, W) of pictures, as far as they are known before they are read."""


class DatasetSource:
  """Pictures of a dataset; a damaged one is an error."""

  def __init__(self, pool: Dataset | JoinedDataset, list_: IdList):
    self.ids, self.failures, self._pool = list_.ids, {}, pool
    self.about = {**list_.describe(), "dataset": pool.info.name}

  def read(self, ids: Sequence[str]) -> Iterator[Seen]:
    """See Source; DataError where a record is damaged."""
    indices = [self._pool.index(id_) for id_ in ids]
    for example in read_ahead(self._pool.read, indices, self.sizes(ids)):
      data = example.maps.get(HAS_DATA)
      valid = None if data is None else data.values.astype(bool)
      yield Seen(example.id, example.image, example.label, valid)

  def sizes(self, ids: Sequence[str]) -> list[Size]:
    """See Source."""
    return sizes_of(self._pool, [self._pool.index(id_) for id_ in ids])


class FolderSource:
  """The pictures under a folder; ids are their paths, which begin with that of the folder.

  Hidden files are no pictures, and neither are those with the names of masks of others.
  """

  def __init__(self, folder: str, channels: int, reading: Mapping[str, Any]):
    """Args: channels of pictures; further arguments of `read_picture`.

    Raises:
      DataError: no folder, or no pictures in it.
    """
    self._channels, self._reading = channels, reading
    self.failures = {}
    self.ids = tuple(map(str, chosen_files.pictures_under(pathlib.Path(folder))))
    self.about = {"folder": folder, "ids": len(self.ids), "sha256": digest(self.ids)}
    exif = reading.get("exif", orientation.TURN)
    self._sizes = {id_: picture_sizes.size_of(id_, exif) for id_ in self.ids}

  def read(self, ids: Sequence[str]) -> Iterator[Seen]:
    """See Source."""
    for read in read_ahead(self._read, ids, [self._sizes[id_] for id_ in ids]):
      if isinstance(read, Seen):
        yield read
      else:
        self.failures.update([read])

  def sizes(self, ids: Sequence[str]) -> list[Size]:
    """See Source."""
    return [size for id_ in ids if (size := self._sizes[id_])]

  def _read(self, id_: str) -> Seen | tuple[str, str]:
    try:
      picture = read_picture(id_, channels=self._channels, **self._reading)
    except DataError as error:
      return id_, str(error)
    except OSError as error:
      return id_, f"{id_}: cannot be read ({error.strerror}); check the file and its permissions"
    except MemoryError as error:
      return id_, memory.describe(id_, error)
    return Seen(id_, picture.pixels, valid=picture.valid)


def results(
  segmenter: Segmenter, source: Source, ids: Sequence[str]
) -> Iterator[tuple[Seen, tuple[np.ndarray, np.ndarray]]]:
  """Yields the pictures that can be read, each with what a segmenter gives of it.

  Raises:
    OutOfMemoryError: which names the picture.
    NonFiniteError: scores with a NaN or an infinity.
  """
  ahead: collections.deque[Seen] = collections.deque()

  def noted(seen: Seen) -> np.ndarray:
    ahead.append(seen)
    return seen.image

  found = segmenter.segment_many(map(noted, source.read(ids)), source.sizes(ids))
  while True:
    with memory.named(lambda: ahead[0].id if ahead else "a picture"):
      result = next(found, None)
    if result is None:
      return
    yield ahead.popleft(), result
