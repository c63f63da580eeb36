"""Reads and writes .safetensors files.

The format: 8 bytes, the length of the header (little endian); the header, JSON of name -> {dtype,
shape, data_offsets}; then the raw numbers, row by row, little endian.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = {
  "F64": "<f8",
  "F32": "<f4",
  "F16": "<f2",
  "I64": "<i8",
  "I32": "<i4",
  "I16": "<i2",
  "I8": "|i1",
  "U8": "|u1",
  "BOOL": "|b1",
}
_CODES = {np.dtype(numpy_name): code for code, numpy_name in DTYPES.items()}
_ALIGNED = 8  # readers map the numbers into memory


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Returns name -> array; bfloat16, which numpy lacks, becomes float32.

  Raises:
    ValueError: a damaged file, or a type of numbers that cannot be read.
  """
  data = pathlib.Path(path).read_bytes()
  start = 8 + int.from_bytes(data[:8], "little")
  if len(data) < 8 or start > len(data):
    raise ValueError(f"the header ends at byte {start} of {len(data)}")
  header = json.loads(data[8:start])
  header.pop("__metadata__", None)
  body = memoryview(data)[start:]
  return {name: _array(name, entry, body) for name, entry in header.items()}


def _array(name: str, entry: dict[str, Any], body: memoryview) -> np.ndarray:
  code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
  if code != "BF16" and code not in DTYPES:
    raise ValueError(f"{name} is of type {code}; readable are BF16, {', '.join(DTYPES)}")
  dtype = np.dtype("<u2" if code == "BF16" else DTYPES[code])
  count = int(np.prod(shape, dtype=np.int64))
  if not 0 <= begin <= end <= len(body) or end - begin != count * dtype.itemsize:
    raise ValueError(f"{name}, {code} of shape {shape}, lies at bytes {begin} to {end}")
  array = np.frombuffer(body[begin:end], dtype)
  if code == "BF16":  # the upper half of a float32
    array = (array.astype(np.uint32) << 16).view(np.float32)
  return array.reshape(shape)


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
  """Writes name -> array, as PyTorch's users expect it ('format': 'pt').

  Raises:
    ValueError: an array of a type that is not in DTYPES.
  """
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  end = 0
  for name, array in arrays.items():
    if array.dtype.newbyteorder("<") not in _CODES:
      raise ValueError(f"{name} is of type {array.dtype}, which .safetensors files do not have")
    begin, end = end, end + array.nbytes
    code = _CODES[array.dtype.newbyteorder("<")]
    header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % _ALIGNED)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
      file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
