"""Published orders of a list: pickles of positions, read without running anything that they say."""

import io
import os
import pathlib
import pickle
import struct
from typing import Any

import numpy as np

from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

SUFFIXES = (".pkl", ".pickle")
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError)
_DAMAGE += (struct.error, OverflowError, MemoryError, ImportError, RecursionError)


class _Kind:
  """Stands for a numpy dtype."""

  def __init__(self, code: str, *_: Any):
    self.code, self.order = code, "="

  def __setstate__(self, state: tuple) -> None:
    self.order = state[1]


class _Array:
  """Stands for a numpy array."""

  def __init__(self, *_: Any):
    self.state: tuple = ()

  def __setstate__(self, state: tuple) -> None:
    self.state = state

  def positions(self) -> np.ndarray:
    """The numbers; ValueError for an array of anything but a row of integers."""
    _, shape, kind, _, data = self.state
    if len(shape) != 1 or not isinstance(kind, _Kind) or kind.code[:1] not in ("i", "u"):
      raise ValueError("it holds an array that is no row of integers")
    order = "=" if kind.order == "|" else kind.order
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, np.dtype(kind.code).newbyteorder(order)).astype(np.int64)


def _of_buffer(data: bytes, kind: _Kind, shape: tuple, order: str) -> _Array:
  """How protocol 5 writes arrays."""
  array = _Array()
  array.state = (1, shape, kind, False, bytes(data))
  return array


def _scalar(kind: _Kind, data: bytes | str) -> int:
  """One number of a numpy type."""
  array = _Array()
  array.state = (1, (1,), kind, False, data)
  return int(array.positions()[0])


def _bytes(text: str, encoding: str) -> bytes:
  """How protocols before 3 write bytes."""
  return text.encode("latin1")


_CORE = ("numpy.core", "numpy._core")  # before numpy 2, and since
_INERT: dict[tuple[str, str], Any] = {
  **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _CORE},
  **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORE},
  **{(f"{core}.numeric", "_frombuffer"): _of_buffer for core in _CORE},
  ("numpy", "ndarray"): _Array,
  ("numpy", "dtype"): _Kind,
  ("_codecs", "encode"): _bytes,
}


class _Inert(pickle.Unpickler):
  """Finds only the names above, none of which does anything."""

  def find_class(self, module: str, name: str) -> Any:
    """The stand-in of a name."""
    if (module, name) not in _INERT:
      raise pickle.UnpicklingError(f"it names {module}.{name}")
    return _INERT[module, name]


def read_permutation(path: str | os.PathLike[str], count: int) -> np.ndarray:
  """Reads positions of [0, count), each once: a pickled list, tuple or numpy array of integers.

  Raises:
    DataError: absent, no pickle or of other things, or no such permutation.
  """
  try:
    content = _Inert(io.BytesIO(pathlib.Path(path).read_bytes()), encoding="latin1").load()
    positions = content.positions() if isinstance(content, _Array) else _row(content)
  except OSError as error:
    raise DataError(f"--order {path} cannot be read ({error}); correct the path") from error
  except _DAMAGE as error:
    raise DataError(
      f"--order {path} is no pickle of positions ({error}), and nothing else is ever loaded; give "
      "one, or a text file of the ids in their order"
    ) from error
  if not np.array_equal(np.sort(positions), np.arange(count)):
    raise DataError(
      f"--order {path} holds {len(positions)} positions that are not those of 0 to {count - 1}, "
      f"each once; --of must be the list of {counted(count, 'picture')} that it was made for"
    )
  return positions


def _row(content: Any) -> np.ndarray:
  if not isinstance(content, list | tuple) or not all(type(x) is int for x in content):
    raise ValueError("it holds no row of integers")
  return np.array(content, np.int64)
