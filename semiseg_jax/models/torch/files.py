"""PyTorch state dicts in files: .pth and .pt (through torch), .safetensors and .npz (without)."""

import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp  # which also makes numpy know bfloat16 by name
import numpy as np
import safetensors.numpy

from semiseg_jax import files
from semiseg_jax.errors import WeightsError

SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")
# What reading a damaged file raises besides; RuntimeError: nested too deep, or encrypted.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError)
_DAMAGE += (zipfile.BadZipFile, zlib.error, safetensors.SafetensorError)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads state-dict name -> array, floats as float32, in the order of the file.

  Names of nested dicts are joined: 'model.module.conv1.weight'.  Nothing that a file contains is
  ever executed.

  Raises:
    WeightsError: absent, damaged, of another format, or more than tensors.
  """
  suffix = pathlib.Path(path).suffix
  _check_suffix(f"--source {path}", suffix)
  if not os.path.isfile(path):
    what = "is no file" if os.path.exists(path) else "does not exist"
    raise WeightsError(f"--source {path} {what}.")
  if suffix in (".pth", ".pt"):
    state = _read_torch(path)
  else:
    state = _read_plain(path, suffix)
  return {
    name: array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) else array
    for name, array in state.items()
  }


def _check_suffix(what: str, suffix: str) -> None:
  if suffix not in SUFFIXES:
    raise WeightsError(f"{what} ends in {suffix!r}; possible: {', '.join(SUFFIXES)}.")


def _read_plain(path: str | os.PathLike[str], suffix: str) -> dict[str, np.ndarray]:
  try:
    if suffix == ".safetensors":
      return safetensors.numpy.load_file(path)
    with np.load(path) as arrays:
      state = dict(arrays)
    for name, array in state.items():
      if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array")
    return state
  except _DAMAGE as error:
    raise WeightsError(
      f"--source {path} is no readable {suffix} file ({error}); was it copied whole?"
    ) from error


def _torch(path: str | os.PathLike[str]) -> ModuleType:
  try:
    import torch
  except ImportError as error:
    raise WeightsError(
      f"{path}: .pth and .pt files need PyTorch (pip install torch); .safetensors and .npz files "
      "of the same tensors do not."
    ) from error
  return torch


def _read_torch(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  torch = _torch(path)
  try:
    content = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # torch raises many kinds; none of them may look like a success
    raise WeightsError(
      f"--source {path} cannot be read as tensors only, and nothing else is ever loaded: "
      f"{_reason(error)} If you trust the file, save its state dict alone: "
      'torch.save(torch.load(FILE, weights_only=False)["state_dict"], "tensors.pth").'
    ) from error
  tensors = {name: leaf for name, leaf in _flat(content) if isinstance(leaf, torch.Tensor)}
  return {name: _from_tensor(f"--source {path}: {name}", t) for name, t in tensors.items()}


def _reason(error: Exception) -> str:
  """The line of torch's explanation that says what was found, without its colors."""
  lines = re.sub(r"\x1b\[\d*m", "", str(error)).strip().splitlines() or [type(error).__name__]
  said = next((line for line in lines if "unsupported" in line.lower()), lines[0])
  return said.partition(" Please ")[0].strip()


def _from_tensor(what: str, tensor: Any) -> np.ndarray:
  try:
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
  except (NotImplementedError, RuntimeError, TypeError) as error:  # sparse, quantized, on "meta"
    raise WeightsError(
      f"{what} is no plain tensor ({_reason(error)}); save it as one, of floats."
    ) from error


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  if isinstance(content, Mapping):
    items = content.items()
  elif isinstance(content, (list, tuple)):
    items = enumerate(content)
  else:
    yield prefix.removesuffix("."), content
    return
  for key, value in items:
    yield from _flat(value, f"{prefix}{key}.")


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
