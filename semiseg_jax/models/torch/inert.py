"""Pickles as plain values, of which nothing is ever run.

A pickle names classes and functions, and asks to call them.  Here no such name is imported: a short
table says what becomes of tensors, storages and numpy's arrays and numbers, and any other name is
an empty class of our own that keeps what it is given.  Calls of what runs programs or code end the
reading; see `refused_calls`.  The opcodes are Python's own `pickle`.
"""

import collections
import dataclasses
import functools
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import jax.numpy as jnp  # noqa: F401  (makes numpy know bfloat16 by name)
import numpy as np

from semiseg_jax.models.torch import refused_calls

# What torch calls storages and types -> numpy's name.
_DTYPES = {
  "DoubleStorage": "float64",
  "FloatStorage": "float32",
  "HalfStorage": "float16",
  "BFloat16Storage": "bfloat16",
  "LongStorage": "int64",
  "IntStorage": "int32",
  "ShortStorage": "int16",
  "CharStorage": "int8",
  "ByteStorage": "uint8",
  "BoolStorage": "bool",
  "UntypedStorage": "uint8",
  "ComplexFloatStorage": "complex64",
  "ComplexDoubleStorage": "complex128",
} | {name: name for name in ("uint16", "uint32", "uint64")}
_DTYPES |= {name: name for name in _DTYPES.values()}


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
  """Numbers of one type that lie elsewhere in the file; dtype None: one that numpy has not."""

  key: str
  dtype: str | None
  numel: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
  """A part of a storage: its shape, and its offset and strides in elements."""

  storage: Storage
  offset: int
  size: tuple[int, ...]
  stride: tuple[int, ...]
  dtype: str | None

  def array(self, raw: bytes) -> np.ndarray:
    """Returns the tensor whose storage has the bytes `raw`.

    Raises:
      ValueError: a type without a numpy counterpart, or no part of its storage.
    """
    if self.dtype is None or self.storage.dtype is None:
      raise ValueError("its type of numbers is unknown")
    if len(raw) // np.dtype(self.storage.dtype).itemsize < self.storage.numel:
      raise ValueError(f"its storage has fewer than {self.storage.numel} numbers")
    numbers = np.frombuffer(raw, self.dtype)
    extents = [*self.size, *self.stride, self.offset]
    if any(type(extent) is not int or extent < 0 for extent in extents):
      raise ValueError(f"its shape is {self.size}")
    count, step = math.prod(self.size), numbers.itemsize
    last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
    if count and (last >= len(numbers) or count > len(numbers)):
      raise ValueError(f"its shape {self.size} is larger than its {len(numbers)} numbers")
    if not count:
      return np.zeros(self.size, numbers.dtype)
    strides = [s * step for s in self.stride]
    return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.size, strides)


class Inert:
  """An object whose class is not loaded; `state` and `entries` are what it was given."""

  def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
    """Returns an empty one, unless the call would run something: `WeightsError`."""
    refused_calls.check(cls.__module__, cls.__name__)
    made = super().__new__(cls)
    made.state, made.entries = None, {}
    return made

  def __init__(self, *args: Any, **kwargs: Any):
    pass

  def __call__(self, *args: Any) -> "Inert":
    """Returns what stands for the value of a call, which is not made."""
    return type(self)()

  def __setstate__(self, state: Any):
    self.state = state

  def __setitem__(self, key: Any, value: Any):
    self.entries[key] = value

  def append(self, value: Any) -> None:
    """Of lists of a class of their own; what they hold is nothing we look for."""

  extend = add = append


class _Call:
  """A function of ours in the place of one that a pickle names; a pickle cannot change it."""

  __slots__ = ("_function",)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setstate__(self, state: Any):
    raise pickle.UnpicklingError("it changes a function")


class Array:
  """An array of numpy's; `numbers` is None where its elements are objects, texts or records."""

  def __init__(self, *args: Any):
    self.numbers = None

  def __setstate__(self, state: Any):
    _, shape, dtype, columns, raw = state
    if isinstance(dtype, _Dtype) and isinstance(raw, bytes | str):
      raw = raw.encode("latin1") if isinstance(raw, str) else raw  # as Python 2 wrote it
      numbers = dtype.read(raw)
      if numbers is not None:
        self.numbers = numbers.reshape(shape, order="F" if columns else "C")


class _Dtype:
  """numpy's dtype of plain numbers."""

  def __init__(self, code: Any, *args: Any):
    if isinstance(code, type) and (code.__module__, code.__name__) == ("ml_dtypes", "bfloat16"):
      code = code.__name__
    plain = isinstance(code, str) and re.fullmatch(r"bfloat16|[<>|=]?[biufc]\d{1,2}", code)
    self.dtype = np.dtype(code) if plain else None

  def __setstate__(self, state: Any):
    if self.dtype is not None and state[1] in ("<", ">"):
      self.dtype = self.dtype.newbyteorder(state[1])

  def read(self, raw: bytes) -> np.ndarray | None:
    """Returns the numbers in `raw`."""
    return None if self.dtype is None else np.frombuffer(raw, self.dtype)


def _scalar(dtype: Any, raw: Any = None) -> Any:
  numbers = dtype.read(raw) if isinstance(dtype, _Dtype) and isinstance(raw, bytes) else None
  return None if numbers is None else numbers[0].item()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
  made = Array()
  made.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
  return made


def _encode(text: str, encoding: str = "latin1") -> bytes:
  """`_codecs.encode`, as which old protocols write bytes."""
  return text.encode("latin1")


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
  return Tensor(storage, offset, tuple(size), tuple(stride), storage.dtype)


def _typed_tensor(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
  dtype = rest[2] if isinstance(rest[2], str) else None
  return dataclasses.replace(_tensor(storage, offset, size, stride), dtype=dtype)


def _of_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
  """A tensor with attributes, or of a class of its own."""
  return function(*args)


def _empty(cls: Any, base: Any = None, content: Any = None, *_: Any) -> Any:
  """An object of protocol 0 or 1; the content of a class that extends `dict` comes with it."""
  made = cls.__new__(cls)
  if isinstance(made, Inert) and isinstance(content, dict):
    made.entries = dict(content)
  return made


def _attribute(of: Any, name: Any, *_: Any) -> Any:
  """`getattr`: a class inside of a class has its qualified name; of anything else, none."""
  if isinstance(of, type) and issubclass(of, Inert) and isinstance(name, str):
    return _inert_class(of.__module__, f"{of.__name__}.{name}")
  return _inert_class("builtins", "getattr")()


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_KNOWN = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("collections", "defaultdict"): _Call(lambda *_: collections.OrderedDict()),
  ("builtins", "set"): _Call(set),
  ("builtins", "frozenset"): _Call(frozenset),
  ("builtins", "getattr"): _Call(_attribute),
  ("copyreg", "_reconstructor"): _Call(_empty),
  ("copyreg", "__newobj__"): _Call(_empty),
  ("_codecs", "encode"): _Call(_encode),
  ("numpy", "dtype"): _Call(_Dtype),
  ("numpy", "ndarray"): _Call(Array),
  **{(module, "_reconstruct"): _Call(Array) for module in _NUMPY},
  **{(module, "scalar"): _Call(_scalar) for module in _NUMPY},
  ("numpy.core.numeric", "_frombuffer"): _Call(_from_buffer),
  ("numpy._core.numeric", "_frombuffer"): _Call(_from_buffer),
  ("torch", "Size"): _Call(tuple),
  ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
  ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
  ("torch._utils", "_rebuild_tensor_v3"): _Call(_typed_tensor),
  ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *_: data),
  ("torch._utils", "_rebuild_parameter_with_state"): _Call(lambda data, *_: data),
  ("torch._utils", "_rebuild_device_tensor_from_numpy"): _Call(lambda data, *_: data),  # of a TPU
  ("torch._utils", "_rebuild_xla_tensor"): _Call(lambda data, *_: data),
  ("torch._tensor", "_rebuild_from_type_v2"): _Call(_of_type),
}
_TORCH = ("torch", "torch.storage", "torch.cuda")
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def kind(value: Any) -> str:
  """Returns the name of what is not loaded: of an object its class; empty for any other value."""
  if isinstance(value, Array) and value.numbers is None:
    return "numpy.ndarray, not of numbers"
  cls = value if isinstance(value, type) else type(value)
  return f"{cls.__module__}.{cls.__name__}" if issubclass(cls, Inert) else ""


def _inert_class(module: str, name: str) -> type[Inert]:
  return type(name, (Inert,), {"__module__": module})


def is_old_pickle(path: str | os.PathLike[str]) -> bool:
  """Whether a file is one pickle of protocol 0 or 1, which begins with no magic number."""
  with open(path, "rb") as file:
    if file.read(1) not in (b"(", b"c", b"}", b"]"):
      return False
    file.seek(0)
    try:
      collections.deque(pickletools.genops(file), maxlen=0)
    except (ValueError, LookupError, ArithmeticError):  # not its opcodes, or not to the end
      return False
    return not file.read(1)


def load(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
  """Reads one pickle from where the file stands to its end.

  Returns:
    What it holds, and the storages that it names, by their keys.

  Raises:
    WeightsError: it asks for a call of `refused_calls`.
    ValueError, pickle.UnpicklingError and so on: damage.
  """
  start = file.tell()
  for count, (opcode, place, _) in enumerate(pickletools.genops(file)):
    if opcode.name.endswith("PUT") and place > count:  # Python would reserve memory for as many
      raise ValueError(f"it puts value {count} in place {place}")
  file.seek(start)
  unpickler = _Unpickler(file)
  return unpickler.load(), unpickler.storages


class _Unpickler(pickle.Unpickler):
  """Names become what stands for them, and torch's storages are kept."""

  def __init__(self, file: BinaryIO):
    super().__init__(file, encoding="latin1")
    self.storages: dict[str, Storage] = {}
    self._classes = functools.cache(_inert_class)

  def find_class(self, module: str, name: str) -> Any:
    """Returns what stands for a name; nothing is imported."""
    module = _PYTHON_2.get(module, module)
    if module in _TORCH and name in _DTYPES:
      return _DTYPES[name]
    return _KNOWN.get((module, name)) or self._classes(module, name)

  def persistent_load(self, pid: Any) -> Any:
    """Returns the storage that torch names ('storage', type, key, device, number[, view])."""
    match pid:
      case ("module", kind, *_):  # a class and its source, as old files have them
        return kind
      case ("storage", dtype, key, _, int(numel), *view) if not any(view):
        known = dtype if isinstance(dtype, str) else None
        return self.storages.setdefault(str(key), Storage(str(key), known, numel))
    raise pickle.UnpicklingError("it has parts that torch does not write")
