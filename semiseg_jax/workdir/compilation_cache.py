"""The folder of compiled programs of a run: an entry that a kill cut short is never used.

JAX writes an entry in place and never again, so that one half-written is read at every later start.
Here each entry is sealed by a file with its digest once it is there, and those without the right
seal are removed before jax looks at them.
"""

import hashlib
import os
import pathlib

import jax
from absl import logging

from semiseg_jax import files

OWN = "compilation_cache"  # the folder in a workdir
_ENTRY, _SEAL = "-cache", ".sha256"


def start(folder: str, *, own: bool) -> None:
  """Makes `folder` jax's cache.

  Args:
    folder: made when it is not there.
    own: whether this run alone writes there; only then are unsealed entries removed.
  """
  path = os.path.abspath(folder)
  if own and jax.process_index() == 0:
    clean(path)
  jax.config.update("jax_compilation_cache_dir", path)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def clean(folder: str | os.PathLike[str]) -> list[str]:
  """Removes entries that were not sealed, or are not what was; returns their names."""
  removed = []
  for entry in _entries(folder):
    seal = _seal_of(entry)
    if not seal.is_file() or seal.read_bytes() != _digest(entry).encode():
      entry.unlink(missing_ok=True)
      seal.unlink(missing_ok=True)
      removed.append(entry.name)
  if removed:
    logging.warning("Removed %d unfinished entries from the compilation cache.", len(removed))
  return removed


def seal(folder: str | os.PathLike[str]) -> None:
  """Seals the entries there are; to be called while nothing compiles."""
  for entry in _entries(folder):
    target = _seal_of(entry)
    if not target.exists():
      files.write_text(target, _digest(entry))


def _entries(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
  path = pathlib.Path(folder)
  return sorted(path.glob(f"*{_ENTRY}")) if path.is_dir() else []


def _seal_of(entry: pathlib.Path) -> pathlib.Path:
  return entry.with_name(entry.name + _SEAL)


def _digest(entry: pathlib.Path) -> str:
  return hashlib.sha256(entry.read_bytes()).hexdigest()
