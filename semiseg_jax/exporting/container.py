"""Frozen inference: the StableHLO programs of a network for pictures of any size and platform.

A .semiseg file is a zip, uncompressed, of

  about.json           what it is, under a seal (semiseg_jax.seals), with the SHA-256 of the rest
  weights.safetensors  name -> array
  segment.jax_export   (weights, images) -> (labels, confidence, probabilities)
  scores.jax_export    (weights, images, valid) -> what windows are joined by (functions.scores)

Without this package: `jax.export.deserialize(bytearray(zip.read("segment.jax_export"))).call`.
"""

import dataclasses
import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax import export

from semiseg_jax import seals, stored_zip
from semiseg_jax.errors import WeightsError
from semiseg_jax.exporting import promise

SUFFIX = ".semiseg"
FORMAT = "semiseg_jax inference function"
VERSION = 1
_ABOUT, _WEIGHTS, _PROGRAMS = "about.json", "weights.safetensors", ("segment", "scores")
# What jax and flatbuffers raise of a program of another version.
_UNREAD = (ValueError, LookupError, TypeError, RuntimeError, AssertionError, struct.error)
# What programs may call beside StableHLO's own operations, and how the text of one names it.
_ALLOWED = {"shape_assertion"}
_CALL = re.compile(r'custom_call\s*@"?([^\s"(]+)|call_target_name\s*=\s*"([^"]*)')
_DAMAGE = (ValueError, KeyError, TypeError, safetensors.SafetensorError)

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Frozen:
  """A file as it was read.

  Attributes:
    about: what it says of itself.
    weights: name -> array.
    programs: 'segment' and 'scores', see the module.
  """

  about: dict[str, Any]
  weights: dict[str, np.ndarray]
  programs: dict[str, export.Exported]

  @property
  def size(self) -> Size | None:
    """The one (height, width) of pictures, None where any size will do."""
    return tuple(self.about["input"]["size"]) if self.about["input"]["size"] else None


def serialized(programs: Mapping[str, export.Exported]) -> dict[str, bytes]:
  """Returns programs as they lie in a file."""
  return {name: bytes(program.serialize()) for name, program in programs.items()}


def write(
  path: str | os.PathLike[str],
  about: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  programs: Mapping[str, bytes],
) -> None:
  """Writes a .semiseg file; see `Frozen` and `serialized`."""
  content = {_WEIGHTS: safetensors.numpy.save(dict(weights))}
  content |= {f"{name}.jax_export": data for name, data in programs.items()}
  digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
  about = seals.sealed({**about, "sha256": digests})
  content = {_ABOUT: (json.dumps(about, indent=1) + "\n").encode(), **content}
  with zipfile.ZipFile(path, "w") as archive:
    for name, data in content.items():
      archive.writestr(zipfile.ZipInfo(name), data)


def is_file(path: str | os.PathLike[str]) -> bool:
  """Whether a path is to be read as an exported file, and not as the folder of a run."""
  return os.path.isfile(path) or os.fspath(path).endswith(SUFFIX)


def read(path: str | os.PathLike[str]) -> Frozen:
  """Reads a file; nothing of it runs before its checksums were compared.

  They tell damage and not intent: a program may be a wrong one, yet it can only compute.  Those
  that call anything outside of themselves are refused.

  Raises:
    WeightsError: absent, damaged, of another kind, or its promise has ended.
  """
  if not os.path.isfile(path):
    raise WeightsError(f"there is no file {path}; give what semiseg_jax.export wrote.")
  about = _about(path)
  try:
    content = _content(path, about)
    weights = safetensors.numpy.load(content.pop(_WEIGHTS))
  except _DAMAGE as error:
    raise _damaged(path, error) from error
  promise.check(path, about)
  _check_platform(path, about)
  programs = {name: program(path, about, content[f"{name}.jax_export"]) for name in _PROGRAMS}
  return Frozen(about, weights, programs)


def _about(path: str | os.PathLike[str]) -> dict[str, Any]:
  with open(path, "rb") as file:
    is_zip = file.read(4) == b"PK\x03\x04"
  if not is_zip:
    raise WeightsError(
      f"{path} is no exported network: give a {SUFFIX} file that semiseg_jax.export wrote, or the "
      "folder of a training run."
    )
  try:
    with stored_zip.opened(path) as archive:
      names = archive.namelist()
      about = json.loads(archive.read(_ABOUT)) if _ABOUT in names else {}
  except stored_zip.DamagedZipError as error:
    raise _damaged(path, error) from error
  if not isinstance(about, dict) or about.get("format") != FORMAT:
    raise WeightsError(
      f"{path} is a zip of something else (it holds {', '.join(sorted(names)[:3]) or 'nothing'}): "
      f"give a {SUFFIX} file that semiseg_jax.export wrote."
    )
  wrong = seals.problem(about, required=True)
  if wrong:
    raise _damaged(path, wrong)
  if about["format_version"] > VERSION:
    raise WeightsError(
      f"{path} is of format {about['format_version']}, this version of semiseg_jax reads up to "
      f"{VERSION}: use semiseg_jax {about['versions']['semiseg_jax']} or a later one."
    )
  return about


def _content(path: str | os.PathLike[str], about: Mapping[str, Any]) -> dict[str, bytes]:
  with stored_zip.opened(path) as archive:
    content = {name: archive.read(name) for name in about["sha256"]}
  for name, digest in about["sha256"].items():
    if hashlib.sha256(content[name]).hexdigest() != digest:
      raise ValueError(f"the SHA-256 of {name} is another")
  return content


def _damaged(path: str | os.PathLike[str], said: object) -> WeightsError:
  return WeightsError(f"{path} is damaged ({said}): copy it again, or export the network anew.")


def _check_platform(path: str | os.PathLike[str], about: Mapping[str, Any]) -> None:
  here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  if here not in about["platforms"]:
    raise WeightsError(
      f"{path} is for {', '.join(about['platforms'])}, and this is {here}: set JAX_PLATFORMS=cpu."
    )


def program(path: str | os.PathLike[str], about: Mapping[str, Any], data: bytes) -> export.Exported:
  """Returns a program of a file with such an about.json.

  Raises:
    WeightsError: this version of jax cannot read it, or it calls anything outside of itself.
  """
  try:
    program = export.deserialize(bytearray(data))
    calls = {a or b for a, b in _CALL.findall(program.mlir_module())}
  except _UNREAD as error:
    raise WeightsError(
      f"{path}: jax {jax.__version__} cannot read what jax {about['versions']['jax']} wrote "
      f"({error}); {promise.mend(about)}"
    ) from error
  if calls - _ALLOWED:
    raise WeightsError(
      f"{path} calls {', '.join(sorted(calls - _ALLOWED))} outside of its program, which no "
      "exported network does: it is not run."
    )
  return program
