"""Picture files with their labels, where some cannot be read or need too much memory."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from semiseg_jax import memory
from semiseg_jax.data import orientation, picture_sizes
from semiseg_jax.data.pictures import Picture, read_picture
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.maps import Maps
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.evaluation.windows import Size
from semiseg_jax.wording import counted

# Gives labels uint8 [H,W] of each picture, or Maps.
Segment = Callable[[Iterable[np.ndarray], Iterable[Size]], Iterator[np.ndarray | Maps]]
Check = Callable[[pathlib.Path, Size], None]


class Done(NamedTuple):
  """A picture with what is said of it."""

  file: pathlib.Path
  picture: Picture
  maps: Maps


class LeftOut(list[str]):
  """A line for each picture that could not be read.

  Attributes:
    pictures: the number of all, those that are done included.
  """

  pictures: int = 0

  @property
  def done(self) -> int:
    """The number of those that are done."""
    return self.pictures - len(self)

  def end(self, command: str, done: str = "done") -> None:
    """SystemExit, with status 1, that names the pictures that were left out, if there are any."""
    if self:
      left = counted(len(self), "picture was", "pictures were")
      head = f"{command}: {self.done} of {self.pictures} {done}, {left} left out:"
      raise SystemExit("\n  ".join([head, *self]))


class LabeledFiles:
  """The pictures of a folder with their labels, one by one, also when memory runs out for some."""

  def __init__(
    self,
    segment_many: Segment,
    read: Iterator[tuple[pathlib.Path, Picture | str]],
    sizes: Sequence[Size],
    failures: list[str],
  ):
    """Args: what labels pictures one after the other; what `read` gives; known sizes; messages."""
    self._segment, self._read, self._sizes, self._failures = segment_many, read, sizes, failures
    self._started: collections.deque[tuple[pathlib.Path, Picture]] = collections.deque()
    self._again: collections.deque[tuple[pathlib.Path, Picture]] = collections.deque()
    self._found = self._begin()

  def next(self) -> Done | None:
    """The next picture, None when all are done; appends to the failures those that cannot be."""
    while True:
      try:
        if self._again:
          return self._alone()
        label = next(self._found, None)
        return None if label is None else self._done(self._started.popleft(), label)
      except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not memory.is_exhausted(error):
          raise
        said = str(error)
      self._mend(said)

  def _begin(self) -> Iterator[np.ndarray]:
    return self._segment(self._readable(), self._sizes)

  def _readable(self) -> Iterator[np.ndarray]:
    return filter(lambda image: image is not None, map(self._note, self._read))

  def _note(self, read: tuple[pathlib.Path, Picture | str]) -> np.ndarray | None:
    if isinstance(read[1], str):
      self._failures.append(read[1])
      return None
    self._started.append(read)
    return read[1].pixels

  def _alone(self) -> Done:
    """One of those that were on their way when memory ran out."""
    self._started.append(self._again.popleft())
    label = next(self._segment(iter([self._started[0][1].pixels]), self._sizes))
    return self._done(self._started.popleft(), label)

  def _mend(self, said: str) -> None:
    """After memory ran out: a picture that was alone is left out, several are tried one by one."""
    if len(self._started) == 1:
      self._failures.append(memory.describe(str(self._started.pop()[0]), MemoryError(said)))
    self._again.extendleft(reversed(self._started))
    self._started.clear()
    self._found = self._begin()

  def _done(self, started: tuple[pathlib.Path, Picture], said: np.ndarray | Maps) -> Done:
    file, picture = started
    said = said if isinstance(said, Maps) else Maps(said)
    return Done(file, picture, said if picture.valid is None else said.without(~picture.valid))


def read(
  file: pathlib.Path,
  *,
  channels: int,
  how: Mapping[str, Any],
  keep_file: bool = False,
  check: Check = lambda file, size: None,
) -> tuple[pathlib.Path, Picture | str]:
  """The picture, without its bytes unless `keep_file`; or why there is none.

  `check` of its name and size raises DataError where it is none to label.
  """
  try:
    found = read_picture(file, channels=channels, **how)
    check(file, found.pixels.shape[:2])
    return file, found if keep_file else dataclasses.replace(found, file=None)
  except DataError as error:
    return file, str(error)
  except OSError as error:
    return file, f"{file}: cannot be read ({error.strerror}); check the file and its permissions"
  except MemoryError as error:
    return file, memory.describe(str(file), error)


def begin(
  segment: Segment,
  files: Sequence[pathlib.Path],
  failures: LeftOut,
  *,
  channels: int,
  how: Mapping[str, Any],
  keep_file: bool = False,
  check: Check = lambda file, size: None,
) -> LabeledFiles:
  """Returns files with what `segment` says of them, which are read ahead.

  Args:
    segment: labels pictures one after the other.
    files: the pictures.
    failures: gets a line for each that cannot be labeled, and their number.
    channels, how, keep_file, check: as of `read`; `how` are arguments of `read_picture`.
  """
  failures.pictures = len(files)
  sizes = [picture_sizes.size_of(file, how.get("exif", orientation.TURN)) for file in files]
  one = functools.partial(read, channels=channels, how=how, keep_file=keep_file, check=check)
  known = list(filter(None, sizes))
  return LabeledFiles(segment, read_ahead(one, files, sizes), known, failures)


def reading(about: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
  """How to read files: as the training data were, but for what is given, which is said.

  Args:
    about: the data set of a run, as its checkpoints describe it.
    given: arguments of `read_picture`; None where one is not.
  """
  kept = dict(about.get("reading") or {})  # absent in checkpoints of earlier versions
  given = {key: value for key, value in given.items() if value is not None}
  for key, value in given.items():
    known = kept.get(key, value)
    if known != (list(value) if key == "value_range" else value):
      print(f"NOTE: --{key} {value} where the training data were prepared with {known}")
  if "value_range" in given:  # which may be for values of another kind
    kept.pop("values", None)
  return kept | given
