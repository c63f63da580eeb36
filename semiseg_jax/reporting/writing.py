"""From work directories, on disks or in stores, to the file of a page."""

import contextlib
import os
import pathlib
from collections.abc import Sequence

import jax
from absl import logging

from semiseg_jax import files
from semiseg_jax.errors import ConfigError, UserError
from semiseg_jax.reporting import markup, page, runs
from semiseg_jax.workdir import store

NAME = "report.html"


def write(
  workdirs: Sequence[str],
  out: str | None = None,
  pictures: int | None = None,
  damaged: list[str] | None = None,
) -> str:
  """Writes the page of runs, and returns where it lies.

  Args:
    workdirs: of runs: folders, gs://... or s3://...
    out: the file; None: in the folder of the run, of several runs in the current one.
    pictures: see `page.build`.
    damaged: gets a line for each file that is left out of the page.

  Raises:
    CheckpointError: no run.
    ConfigError: a folder given twice, or `out` is a file of something else.
  """
  found: list[runs.Run] = []
  with contextlib.ExitStack() as opened:
    own = out is None and len(workdirs) == 1
    for place, name in zip(workdirs, names(workdirs), strict=True):
      folder = opened.enter_context(store.opened(place, writes=own))
      found += runs.read(folder, name, place)
    content = page.build(found, pictures)
    if damaged is not None:
      damaged += [line for run in found for line in run.damaged]
    if own:
      _write(pathlib.Path(folder, NAME), content)
      return f"{workdirs[0].rstrip('/')}/{NAME}"
  out = out or NAME
  with store.opened(os.path.dirname(out) or ".", reads=False) as folder:
    _write(pathlib.Path(folder, os.path.basename(out)), content)
  return out


def names(workdirs: Sequence[str]) -> list[str]:
  """Returns the shortest ends of the paths that tell them apart.

  Raises:
    ConfigError: one is given twice.
  """
  parts = [_parts(place) for place in workdirs]
  twice = [place for k, place in enumerate(workdirs) if parts[k] in parts[:k]]
  if twice:
    raise ConfigError(f"--workdir={twice[0]} is given twice.")
  length = 1
  while len({part[-length:] for part in parts}) < len(parts):
    length += 1
  return ["/".join(part[-length:]) for part in parts]


def _parts(place: str) -> tuple[str, ...]:
  path = place.rstrip("/") if store.is_url(place) else os.path.abspath(place)
  return tuple(filter(None, path.split("/"))) or ("/",)


def _write(path: pathlib.Path, content: bytes) -> None:
  """Replaces an earlier page, and no other file."""
  if path.is_dir():
    raise ConfigError(f"--out={path} is a folder: name a file in it, such as {path / NAME}.")
  if path.exists() and markup.GENERATOR.encode() not in path.read_bytes()[:2000]:
    raise ConfigError(f"--out={path} is a file of something else: choose another name.")
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, content)


def at_end(workdir: str) -> None:
  """Writes WORKDIR/report.html of a run that is complete, by the first process, and says where.

  A page that cannot be written is said in a line; the run is as it was.

  Args:
    workdir: of the run, or of all of its stages; as `store.opened` gave it.
  """
  if jax.process_index():
    return
  place = store.named(workdir)
  try:
    found = runs.read(workdir, _parts(place)[-1], place)
    for line in (line for run in found for line in run.damaged):
      logging.warning("%s", line)
    _write(pathlib.Path(workdir, NAME), page.build(found))
  except Exception as error:  # of disks, of damaged files, or a bug: all is trained and saved
    known = isinstance(error, UserError | OSError | MemoryError)
    reason = " ".join(str(error).split()) if known else f"a bug of this program, {error!r}"
    logging.error("The page %s/%s was not written: %s", place, NAME, reason)
    return
  print(f"  report       {place}/{NAME}", flush=True)
