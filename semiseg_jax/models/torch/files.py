"""PyTorch state dicts in files, read by what they hold: torch's, pickles, .safetensors and .npz.

Only writing .pth and .pt needs torch.
"""

import dataclasses
import errno
import hashlib
import json
import lzma
import os
import pathlib
import pickle
import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp  # which also makes numpy know bfloat16 by name
import numpy as np
import safetensors.numpy

from semiseg_jax import files
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch import inert, other_files, pickled

_SHOWN = 8  # objects that a message lists
_MESSAGE = 200  # characters of what a library says
SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")  # that are written
TORCH = (2, 6)  # the oldest that writes our files; before it, torch.load could run what it read
_ALWAYS, _MOST_PACKED = 1 << 28, 20  # bytes unpacked; times the file, which weights never are
# What reading a damaged file raises besides; RuntimeError: nested too deep, or encrypted.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError)
_DAMAGE += (zipfile.BadZipFile, zlib.error, safetensors.SafetensorError, pickle.UnpicklingError)
_DAMAGE += (MemoryError, ArithmeticError, StopIteration, lzma.LZMAError)
_DAMAGE += (SyntaxError, tokenize.TokenError)  # of the heads of arrays, which are Python
# Numbers of OSError that damage gives: of a zip's offsets; of a stream of bz2, which has none.
_DAMAGE_NUMBERS = (errno.EINVAL, None)


@dataclasses.dataclass(frozen=True)
class Source:
  """A file of weights.

  tensors: state-dict name -> array, floats as float32, in the order of the file; names of nested
  dicts are joined: 'model.module.conv1.weight'.  left: name -> class of each object beside them.
  """

  tensors: dict[str, np.ndarray]
  left: dict[str, str]

  def describe_left(self) -> list[str]:
    """Returns a line for the user, or none."""
    named = [f"{name} ({kind})" for name, kind in list(self.left.items())[:_SHOWN]]
    more = len(self.left) - len(named)
    named += [f"and {more} more"] if more > 0 else []
    return [f"Not tensors, never run: {', '.join(named)}"] if named else []


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Returns the tensors alone; see `read_source`."""
  return read_source(path).tensors


def read_source(path: str | os.PathLike[str]) -> Source:
  """Reads a file of any of the formats, whatever its suffix.

  Nothing that a file contains is ever executed; objects beside the tensors are named in `left`.
  The checksums of a zip are compared, and the digest in a name such as resnet50-0676ba61.pth.

  Raises:
    WeightsError: absent, damaged, of another format, without tensors, or it asks for calls that run
      programs.
  """
  if not os.path.isfile(path):
    raise WeightsError(f"--source {path} {other_files.no_file(path)}.")
  kind = _kind(path)
  try:
    tensors, left = _READERS[kind](path)
    with np.errstate(over="ignore"):  # infinite then, which is refused by name
      tensors = {name: _as_float32(array) for name, array in tensors.items()}
  except WeightsError as error:
    raise WeightsError(f"--source {path}: {error}") from error
  except (*_DAMAGE, OSError) as error:
    if isinstance(error, OSError) and error.errno not in _DAMAGE_NUMBERS:
      raise
    said = " ".join(str(error).split())[:_MESSAGE] or type(error).__name__
    raise WeightsError(
      f"--source {path} is no readable {kind} file ({said}); was it copied whole?"
    ) from error
  if kind in (".pth", "pickle"):  # what is converted from them often keeps the name
    _check_digest(pathlib.Path(path))
  if not tensors:
    beside = ", ".join(f"{name} ({kind})" for name, kind in list(left.items())[:_SHOWN])
    raise WeightsError(f"--source {path} holds no named tensors{beside and f', but {beside}'}.")
  return Source(tensors, left)


def _as_float32(array: np.ndarray) -> np.ndarray:
  wide = jnp.issubdtype(array.dtype, jnp.floating)
  return np.array(array, np.float32 if wide else array.dtype.newbyteorder("="))


def _kind(path: str | os.PathLike[str]) -> str:
  """The format, by the first bytes; by the suffix where these are damaged."""
  with open(path, "rb") as file:
    head = file.read(512)
  suffix = pathlib.Path(path).suffix
  if head.startswith(b"PK"):
    return _kind_of_zip(path, suffix)
  if head.startswith(b"\x80"):
    return "pickle"
  if suffix == ".safetensors" or (head[8:9] == b"{" and head[5:8] == bytes(3)):
    return ".safetensors"
  what = other_files.described(head, suffix)
  if suffix == ".npz" and not what:
    return ".npz"
  if not what and inert.is_old_pickle(path):
    return "pickle"
  what = what or other_files.text(head) or "of no known format"
  raise WeightsError(
    f"--source {path} is {what}; possible: what torch.save, pickle, safetensors and numpy.savez "
    "write (.pth, .pt, .pth.tar, .bin, .ckpt, .pkl, .safetensors, .npz)."
  )


def _kind_of_zip(path: str | os.PathLike[str], suffix: str) -> str:
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except (*_DAMAGE, OSError):
    return ".npz" if suffix == ".npz" else ".pth"
  if any(name.endswith(pickled.PICKLE) for name in names):
    return ".pth"
  packed = other_files.packed(names)
  if packed:
    raise WeightsError(
      f"--source {path} is a zip archive of {packed}: unpack it, and give the file in it."
    )
  return ".npz"


def _read_safetensors(path: str | os.PathLike[str]) -> pickled.Found:
  tensors = safetensors.numpy.load_file(path)
  with open(path, "rb") as file:
    header = file.read(int.from_bytes(file.read(8), "little"))
  json.loads(header, object_pairs_hook=_once)
  return tensors, {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """One object of a header; the library takes the last of two tensors of one name."""
  names = [name for name, _ in pairs]
  if len(set(names)) < len(names):
    raise ValueError(f"{next(n for n in names if names.count(n) > 1)} is in it twice")
  return dict(pairs)


def _read_npz(path: str | os.PathLike[str]) -> pickled.Found:
  with zipfile.ZipFile(path) as archive:
    _once([(name, None) for name in archive.namelist()])
    unpacked = sum(member.file_size for member in archive.infolist())
  if unpacked > max(_ALWAYS, _MOST_PACKED * os.path.getsize(path)):
    raise ValueError(f"{unpacked / 1e9:,.1f} GB unpacked: no weights, but made to fill the memory")
  with np.load(path) as arrays:
    tensors = dict(arrays)
  for name, array in tensors.items():
    if not isinstance(array, np.ndarray):
      raise ValueError(f"{name} is no array")
  return tensors, {}


_READERS = {
  ".pth": pickled.read_zip,
  "pickle": pickled.read_pickle,
  ".safetensors": _read_safetensors,
  ".npz": _read_npz,
}


def _check_digest(path: pathlib.Path) -> None:
  """Compares the SHA-256 whose beginning stands in the name, as torchvision, timm and mm* write."""
  match = re.search(r"-([0-9a-f]{8,64})\.", path.name)
  if not match or re.fullmatch(r"(19|20|0)\d+", match[1]):  # a date, or a step
    return
  with open(path, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if not digest.startswith(match[1]):
    raise WeightsError(
      f"--source {path} is not the file of its name: its SHA-256 begins with "
      f"{digest[: len(match[1])]}, not {match[1]}. Get it again; rename it if it was changed on "
      "purpose."
    )


def _torch(path: str | os.PathLike[str]) -> ModuleType:
  try:
    import torch
  except ImportError as error:
    raise WeightsError(
      f"{path}: writing .pth and .pt files needs PyTorch (pip install torch); .safetensors and "
      ".npz files of the same tensors do not."
    ) from error
  version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
  if version < TORCH:
    raise WeightsError(
      f"{path}: PyTorch {torch.__version__} is older than {TORCH[0]}.{TORCH[1]}, whose torch.load "
      "is the first that runs nothing of a file (pip install -U torch); .safetensors and .npz "
      "files need no PyTorch."
    )
  return torch


def _check_suffix(what: str, suffix: str) -> None:
  if suffix not in SUFFIXES:
    raise WeightsError(f"{what} ends in {suffix!r}; possible: {', '.join(SUFFIXES)}.")


def write_state_dict(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
  """Writes state-dict name -> array in the format of the suffix, whole or not at all.

  Raises:
    WeightsError: another suffix, or torch is needed and absent.
  """
  path = pathlib.Path(path)
  _check_suffix(f"--out {path}", path.suffix)
  torch = _torch(path) if path.suffix in (".pth", ".pt") else None
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.whole(path) as partial:
    if torch:
      torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, partial)
    elif path.suffix == ".safetensors":
      # The library writes the memory of an array as it lies, whatever its strides.
      rows = {name: np.asarray(array, order="C") for name, array in state.items()}
      safetensors.numpy.save_file(rows, partial, {"format": "pt"})
    else:
      with open(partial, "wb") as file:
        np.savez(file, **state)
