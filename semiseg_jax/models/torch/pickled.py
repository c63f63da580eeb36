"""Checkpoints of PyTorch, and other pickles, as state dicts; torch is not needed.

A file of torch is a zip of the pickle `data.pkl` and one member of bytes for each storage, each
with its checksum; before torch 1.6 it is five pickles and the storages behind them.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch import inert

PICKLE = "data.pkl"
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file before torch 1.6
MOST = 10**6  # values of a file; more of them are no state dict
_MODULE = {"_parameters", "_buffers", "_modules"}
Bytes = Callable[[inert.Storage], bytes]
Found = tuple[dict[str, np.ndarray], dict[str, str]]


def read_zip(path: str) -> Found:
  """Reads a zip of torch.

  Returns:
    Name -> array, in the order of the pickle, and what was left: name -> kind of the object.

  Raises:
    WeightsError: a call of `refused_calls`, or tensors without plain numbers.
    ValueError, LookupError, TypeError, RuntimeError, zipfile.BadZipFile and so on: damage.
  """
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    root = next(name for name in names if name.endswith(PICKLE)).removesuffix(PICKLE)
    _check_members(archive, root)
    content, _ = inert.load(io.BytesIO(archive.read(root + PICKLE)))
    return _collected(content, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _check_members(archive: zipfile.ZipFile, root: str) -> None:
  names = archive.namelist()
  twice = [name for name, count in collections.Counter(names).items() if count > 1]
  if twice:
    raise ValueError(f"{twice[0]} is in it twice")
  if f"{root}constants.pkl" in names:
    raise WeightsError(
      "it is a TorchScript program, not a state dict: save the state dict of the network, "
      "torch.save(torch.jit.load(FILE).state_dict(), 'tensors.pth')."
    )
  if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
    raise ValueError("its members are compressed, as torch never writes them")
  if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
    raise ValueError("its numbers are big-endian")


def read_pickle(path: str) -> Found:
  """Reads pickles of torch before 1.6, and any other; see `read_zip`."""
  with open(path, "rb") as file:
    first, _ = inert.load(file)
    if first != _MAGIC:
      return _collected(first, _nowhere)
    _, (system, _), (content, storages) = (inert.load(file) for _ in range(3))
    if not system["little_endian"]:
      raise ValueError("its numbers are big-endian")
    keys, _ = inert.load(file)
    raw = {key: _next_storage(file, storages[key]) for key in keys}
    if file.read(1):
      raise ValueError("bytes follow the last tensor")
  return _collected(content, lambda storage: raw[storage.key])


def _nowhere(storage: inert.Storage) -> bytes:
  raise ValueError("its tensors lie in another file")


def _next_storage(file: BinaryIO, storage: inert.Storage) -> bytes:
  numel = int.from_bytes(file.read(8), "little")
  if storage.dtype is None:
    raise ValueError("it has numbers of an unknown type")
  if numel != storage.numel:
    raise ValueError(f"a storage has {numel} numbers, not {storage.numel}")
  size = numel * np.dtype(storage.dtype).itemsize
  raw = file.read(size)
  if len(raw) != size:
    raise EOFError("it ends inside of a tensor")
  return raw


def _collected(content: Any, read: Bytes) -> Found:
  """All tensors; those that objects of other classes hold only where there are no others."""
  tensors, left = _tensors(content, read, _items)
  return (tensors, left) if tensors else _tensors(content, read, _items_and_attributes)


def _tensors(content: Any, read: Bytes, items: Callable[[Any], Any]) -> Found:
  tensors, left, seen = {}, {}, {}
  for count, (name, leaf) in enumerate(_flat(content, left, items)):
    if count > MOST:
      raise ValueError(f"it has more than {MOST:,} values")
    array = _array(name, leaf, read, seen)
    if array is None:
      continue
    if name in tensors:
      raise ValueError(f"{name} is in it twice")
    tensors[name] = array
  return tensors, left


def _array(name: str, leaf: Any, read: Bytes, seen: dict[str, bytes]) -> np.ndarray | None:
  if isinstance(leaf, inert.Array):
    return leaf.numbers
  if isinstance(leaf, inert.Inert) and inert.kind(leaf).startswith("torch._utils._rebuild"):
    kind = inert.kind(leaf).removeprefix("torch._utils._rebuild_").replace("_", " ")
    raise WeightsError(f"{name} is no plain tensor ({kind}); save it as one, of floats.")
  if not isinstance(leaf, inert.Tensor):
    return None
  key = leaf.storage.key
  if key not in seen:
    seen[key] = read(leaf.storage)
  try:
    return leaf.array(seen[key])
  except (ValueError, TypeError) as error:
    raise WeightsError(f"{name} is no plain tensor ({error}); save it as one, of floats.") from None


def _flat(
  content: Any, left: dict[str, str], items: Callable[[Any], Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  """All values by their joined names; those of classes that are not loaded are put into `left`."""
  for key, value in items(content) or ():
    name = f"{prefix}{key.decode('latin1') if isinstance(key, bytes) else key}"
    kind = inert.kind(value)
    if kind:
      left[name] = kind + (", its tensors taken" if _is_module(value) else "")
    yield name, value
    yield from _flat(value, left, items, f"{name}.")


def _items(content: Any) -> Any:
  """Keys and values of what holds others; None: a leaf."""
  if isinstance(content, dict):
    return dict.items(content)
  if isinstance(content, list | tuple):
    return enumerate(content)
  if isinstance(content, inert.Inert):
    return _of_module(content.state).items() if _is_module(content) else content.entries.items()
  return None


def _items_and_attributes(content: Any) -> Any:
  """The same, with the attributes of objects: an average that keeps a state dict, for instance."""
  own = isinstance(content, inert.Inert) and not _is_module(content)
  if own and isinstance(content.state, dict):
    return {**content.entries, **content.state}.items()
  return _items(content)


def _is_module(content: Any) -> bool:
  state = content.state if isinstance(content, inert.Inert) else None
  return isinstance(state, dict) and _MODULE <= state.keys()


def _of_module(state: dict[str, Any]) -> dict[str, Any]:
  """The parameters, buffers and parts of a whole `torch.nn.Module`, as its state dict has them."""
  passing = state.get("_non_persistent_buffers_set", ())
  parts = [state["_parameters"], state["_buffers"], state["_modules"]]
  if not all(isinstance(part, dict) for part in parts):
    raise pickle.UnpicklingError("a module without its parts")
  parameters, buffers, modules = parts
  lasting = {name: x for name, x in buffers.items() if name not in passing}
  return {**parameters, **lasting, **modules}
