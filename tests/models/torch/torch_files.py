"""Files of torch written by hand: the opcodes of their pickles, and the zip and the old format.

Written from the formats (Python's pickletools, torch/serialization.py), so that tests need no torch
and no class that they name.
"""

import dataclasses
import io
import struct
import zipfile
from typing import Any

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


@dataclasses.dataclass(frozen=True)
class Named:
  """A class or function by its name."""

  module: str
  name: str


@dataclasses.dataclass(frozen=True)
class Called:
  """What a call gives (`new`: an object of a class), and then its state."""

  function: Named
  args: tuple = ()
  state: Any = None
  new: bool = False


@dataclasses.dataclass(frozen=True)
class Built:
  """A state that is set on something."""

  target: Any
  state: Any


@dataclasses.dataclass(frozen=True)
class Kept:
  """A persistent id, by which torch names storages."""

  pid: tuple


def opcodes(value: Any) -> bytes:
  """The opcodes that put `value` on the stack."""
  match value:
    case None:
      return b"N"
    case bool():
      return b"\x88" if value else b"\x89"
    case int() if -(2**31) <= value < 2**31:
      return b"J" + struct.pack("<i", value)
    case int():
      raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
      return b"\x8a" + bytes([len(raw)]) + raw
    case float():
      return b"G" + struct.pack(">d", value)
    case str():
      raw = value.encode()
      return b"X" + struct.pack("<I", len(raw)) + raw
    case bytes():
      return b"B" + struct.pack("<I", len(value)) + value
    case tuple():
      return b"(" + b"".join(map(opcodes, value)) + b"t"
    case list():
      return b"](" + b"".join(map(opcodes, value)) + b"e"
    case dict():
      return b"}(" + b"".join(opcodes(k) + opcodes(v) for k, v in value.items()) + b"u"
    case Named(module, name):
      return f"c{module}\n{name}\n".encode()
    case Called(function, args, state, new):
      made = opcodes(function) + opcodes(args) + (b"\x81" if new else b"R")
      return made if state is None else made + opcodes(state) + b"b"
    case Built(target, state):
      return opcodes(target) + opcodes(state) + b"b"
    case Kept(pid):
      return opcodes(pid) + b"Q"
  raise TypeError(type(value))


def pickled(value: Any) -> bytes:
  """One whole pickle."""
  return b"\x80\x03" + opcodes(value) + b"."


def _with_tensors(value: Any, storages: list[np.ndarray], old: bool) -> Any:
  """Arrays become calls of `_rebuild_tensor_v2` on storages, which are collected."""
  if isinstance(value, dict):
    return {k: _with_tensors(v, storages, old) for k, v in value.items()}
  if isinstance(value, Called):
    return dataclasses.replace(value, state=_with_tensors(value.state, storages, old))
  if not isinstance(value, np.ndarray):
    return value
  storages.append(value)
  key = str(len(storages) - 1)
  kind = Named("torch", STORAGES[value.dtype.name])
  kept = Kept(("storage", kind, key, "cuda:0", value.size, *([None] if old else [])))
  strides = tuple(step // value.itemsize for step in np.ascontiguousarray(value).strides)
  hooks = Called(Named("collections", "OrderedDict"))
  args = (kept, 0, value.shape, strides if value.ndim else (), False, hooks)
  return Called(Named("torch._utils", "_rebuild_tensor_v2"), args)


def zipped(value: Any, root: str = "archive", **more: bytes) -> bytes:
  """What torch.save writes of `value`, whose arrays are its tensors; `more` members."""
  storages, file = [], io.BytesIO()
  content = pickled(_with_tensors(value, storages, old=False))
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr(f"{root}/data.pkl", content)
    archive.writestr(f"{root}/byteorder", b"little")
    for key, array in enumerate(storages):
      archive.writestr(f"{root}/data/{key}", array.tobytes())
    for name, raw in more.items():
      archive.writestr(f"{root}/{name}", raw)
  return file.getvalue()


def old(value: Any) -> bytes:
  """What torch.save wrote of `value` before 1.6."""
  storages = []
  content = pickled(_with_tensors(value, storages, old=True))
  head = pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled({"little_endian": True})
  raw = [struct.pack("<q", array.size) + array.tobytes() for array in storages]
  return head + content + pickled([str(key) for key in range(len(storages))]) + b"".join(raw)
