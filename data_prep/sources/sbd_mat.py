"""The class labels in SBD's .mat files: GTcls.Segmentation of a MATLAB 5 file.

Reads what is needed with bounds checked everywhere: scipy's reader crashes the process on some
damaged files (a test shows one). The format is in MathWorks' "MAT-File Format", chapter 1.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from semiseg_jax.errors import DataError

_HEADER = 128  # its last two bytes tell the byte order
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_STRUCT = 2  # class of arrays
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 12: "i8", 13: "u8"}  # by kind
_INTEGERS = range(8, 16)  # classes of arrays
_MOST_BYTES = 1 << 26


def decode_segmentation(data: bytes, where: str) -> np.ndarray:
  """The class ids [H, W] of a file of SBD's folder `cls`; DataError naming `where` for others."""
  try:
    return _segmentation(data)
  except (ValueError, LookupError, StopIteration, struct.error, zlib.error) as error:
    raise DataError(
      f"{where}: no label of SBD ({error}); files of its folder `cls` are MATLAB 5 files with "
      "GTcls.Segmentation"
    ) from error


def _segmentation(data: bytes) -> np.ndarray:
  order = _ORDERS.get(data[_HEADER - 2 : _HEADER])
  if order is None:
    raise ValueError("no MATLAB 5 file")
  for kind, content in _elements(data[_HEADER:], order):
    if kind == _COMPRESSED:
      kind, content = next(_elements(_inflate(content), order))
    if kind == _MATRIX:
      name, fields = _read_struct(content, order)
      if name == "GTcls":
        return _read_integers(fields["Segmentation"], order)
  raise ValueError("no GTcls")


def _inflate(data: bytes) -> bytes:
  stream = zlib.decompressobj()
  out = stream.decompress(data, _MOST_BYTES)
  if not stream.eof:  # the checksum is behind the end
    raise ValueError("truncated or too large")
  return out


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
  """(kind, content) of the elements that stand behind one another."""
  start = 0
  while start < len(data):
    kind, size = struct.unpack_from(f"{order}II", data, start)
    begin, end = start + 8, start + 8 + size
    padded = end if kind == _COMPRESSED else end + -size % 8
    if kind >> 16:  # up to four bytes, in the place of the size
      kind, size = kind & 0xFFFF, kind >> 16
      begin, end, padded = start + 4, start + 4 + min(size, 4), start + 8
    if end > len(data):
      raise ValueError("truncated")
    yield kind, data[begin:end]
    start = padded


def _read_array(content: bytes, order: str) -> tuple[int, tuple[int, ...], list[tuple[int, bytes]]]:
  """(class, shape, further elements) of an array, of which the name is the first."""
  parts = list(_elements(content, order))
  (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
  shape = np.frombuffer(parts[1][1], f"{order}i4")
  return flags & 0xFF, tuple(map(int, shape)), parts[2:]


def _read_struct(content: bytes, order: str) -> tuple[str, dict[str, bytes]]:
  """(name, fields) of an array; no fields when it is no structure of one element."""
  class_, shape, (name, *parts) = _read_array(content, order)
  if class_ != _STRUCT or math.prod(shape) != 1:
    return name[1].decode("latin-1"), {}
  (width,) = struct.unpack_from(f"{order}i", parts[0][1])
  if width < 1:
    raise ValueError("field names without a length")
  names = [
    parts[1][1][at : at + width].rstrip(b"\0").decode("latin-1")
    for at in range(0, len(parts[1][1]), width)
  ]
  return name[1].decode("latin-1"), {key: part[1] for key, part in zip(names, parts[2:])}


def _read_integers(content: bytes, order: str) -> np.ndarray:
  class_, shape, parts = _read_array(content, order)
  if class_ not in _INTEGERS or len(shape) != 2 or min(shape) < 1:
    raise ValueError(f"array of class {class_} and shape {list(shape)} in place of integers [H, W]")
  kind, values = parts[1]
  return np.frombuffer(values, f"{order}{_NUMBERS[kind]}").reshape(shape, order="F")
