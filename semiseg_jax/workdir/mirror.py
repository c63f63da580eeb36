"""A folder of this machine that mirrors a work directory in an object store.

A run works in the folder as on any disk; what it leaves there goes to the store in an order in
which nothing half-written looks whole:

  files              each is one object
  folders of shards  (stored labels) the file with their metadata last
  checkpoints/STEP   MARK last, which lists its files; where it goes, MARK goes first

A reader takes what has its last object; the rest is what a killed process left.  Where none was
killed, a checkpoint without MARK was copied there by hand, and counts.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator

import filelock
from absl import logging

from semiseg_jax.data import targets
from semiseg_jax.errors import DiskError
from semiseg_jax.workdir import lease
from semiseg_jax.workdir.lease import Lease
from semiseg_jax.workdir.objects import About, Objects

MARK = "WHOLE.json"  # of a checkpoint; in the store only
_WRITTEN = "_CHECKPOINT_METADATA"  # Orbax's own file of a step
_CHECKPOINT = re.compile(r"^(?:.*/)?checkpoints/[0-9]+(?=/)")
_ARRAYS = re.compile(r"^(?:.*/)?checkpoints/[0-9]+/(?:model|train)/")
_SHARD = ".array_record"
_OF_A_DISK = ".lock"  # names of files that mean something on one disk only
# What no start of a run reads: it stays in the store.
_LEFT_THERE = re.compile(
  r"^(?:.*/)?(?:events\.out\.tfevents|profile/|unusable/|evaluations/.*\.png$|report\.html$)"
)
_OF_TRAINING = re.compile(r"^(?:.*/)?(?:compilation_cache/|[^/]*\.array_record$)")
_PREFIX, _LOCK = "semiseg-store-", ".lock"


class Mirror:
  """The mirror of `url`, as empty as can be: arrays of checkpoints come when they are asked for.

  Attributes:
    url: of the work directory.
    root: the folder.

  Args of the constructor:
    url: gs://bucket/run or s3://bucket/run.
    reads: whether what is in the store is wanted.
    trains: whether that which only training reads is wanted, too.
    owns: whether this run alone changes what is there: then what is gone from the mirror, and what
      killed runs left half-written, is removed there too.

  Raises (also each method):
    ConfigError: as Objects, or another run owns it.
    DiskError: as Objects, or something is gone that was listed.
  """

  def __init__(self, url: str, *, reads: bool = True, trains: bool = False, owns: bool = False):
    self._objects = Objects(url)
    self.url = self._objects.url
    _remove_abandoned()
    self._kept = contextlib.ExitStack()
    self.root = _make_folder(self._kept)
    self._lease: Lease | None = None
    self._there: dict[str, About] = {}
    self._torn: list[str] = []
    self._sent: dict[str, tuple[int, int]] = {}  # file -> (size, time) when both were equal
    try:
      if owns:
        self._lease = Lease(self._objects)
        self._kept.callback(self._lease.release)
      if reads:
        self._open(trains)
    except BaseException:
      self.close()
      raise

  def _open(self, trains: bool) -> None:
    listed = self._objects.list()
    killed = self._lease.took_over if self._lease else lease.NAME in listed
    self._torn = sorted(_torn(listed, self._objects))
    if not killed:
      self._take_copied(listed)
    whole = sorted(listed.keys() - {*self._torn, lease.NAME})
    self._there |= {name: listed[name] for name in whole}
    unwanted = (_ARRAYS, _LEFT_THERE, *(() if trains else (_OF_TRAINING,)))
    self._bring(name for name in self._there if not any(p.match(name) for p in unwanted))

  def _take_copied(self, listed: dict[str, About]) -> None:
    """Checkpoints that somebody copied there get their MARK, by the run that goes on with them."""
    torn = {match[0] for name in self._torn if (match := _CHECKPOINT.match(name))}
    for folder in sorted(torn):
      inside = f"{folder}/"
      sizes = {n.removeprefix(inside): a.size for n, a in listed.items() if n.startswith(inside)}
      if _WRITTEN not in sizes:
        continue
      logging.warning("%s/%s was copied there: it counts.", self.url, folder)
      self._torn = [name for name in self._torn if not name.startswith(f"{folder}/")]
      if self._lease:
        self._mark(folder, sizes)

  def _mark(self, folder: str, sizes: dict[str, int]) -> None:
    content = json.dumps({"files": sizes}, indent=1).encode()
    self._objects.write(f"{folder}/{MARK}", content)
    self._there[f"{folder}/{MARK}"] = About(len(content), "")

  def _bring(self, names: Iterable[str]) -> None:
    names = [name for name in names if not name.endswith(f"/{MARK}")]
    self._objects.download(self.root, names)
    for name in names:
      self._sent[name] = _stamp(self.root / name)

  def fetch(self, folder: pathlib.Path) -> None:
    """Brings what is still missing of a folder of the mirror, such as a checkpoint."""
    inside = folder.relative_to(self.root).as_posix() + "/"
    missing = [n for n in self._there if n.startswith(inside) and n not in self._sent]
    self._bring(missing)

  def push(self) -> None:
    """Brings what is new in the folder to the store; an owner removes there what is gone here."""
    if self._lease:
      self._lease.check()
      self._forget(self._torn)  # now, or it would take what is sent under its names along
    here = {name: stamp for name, stamp in _files(self.root)}
    new = sorted(name for name in here if self._sent.get(name) != here[name])
    checkpoints = {match[0] for name in new if (match := _CHECKPOINT.match(name))}
    last = {name for name in new if pathlib.PurePosixPath(name).name == targets.METADATA}
    plain = [name for name in new if not _CHECKPOINT.match(name) and name not in last]
    self._send(plain, here)
    self._send(sorted(last), here)
    for folder in sorted(checkpoints, key=lambda f: (len(f), f)):
      self._send_checkpoint(folder, here)
    if self._lease:
      self._remove_gone(here)

  def _send(self, names: list[str], here: dict[str, tuple[int, int]]) -> None:
    self._objects.upload(self.root, names)
    for name in names:
      self._sent[name] = here[name]
      self._there[name] = About(here[name][0], "")

  def _send_checkpoint(self, folder: str, here: dict[str, tuple[int, int]]) -> None:
    """What is there under its name, of a checkpoint that is made anew, goes first."""
    self.fetch(self.root / folder)
    self._forget([name for name in self._there if name.startswith(f"{folder}/")])
    names = sorted(name for name in here if name.startswith(f"{folder}/"))
    self._send(names, here)
    self._mark(folder, {name[len(folder) + 1 :]: here[name][0] for name in names})

  def _remove_gone(self, here: dict[str, tuple[int, int]]) -> None:
    folders = {match[0] for name in self._there if (match := _CHECKPOINT.match(name))}
    gone = {folder for folder in folders if not (self.root / folder).exists()}
    for folder in sorted(gone):
      self._forget([name for name in self._there if name.startswith(f"{folder}/")])
    self._forget(
      [n for n in self._sent if n in self._there and n not in here and not _CHECKPOINT.match(n)]
    )

  def _forget(self, names: list[str]) -> None:
    """Removes objects, marks before everything else."""
    marks = [name for name in names if name.endswith(f"/{MARK}")]
    self._objects.remove(marks)
    self._objects.remove([name for name in names if name not in marks])
    for name in names:
      self._there.pop(name, None)
      self._sent.pop(name, None)
    self._torn = [name for name in self._torn if name not in names]

  def close(self) -> None:
    """Removes the folder."""
    self._kept.close()


def _torn(listed: dict[str, About], objects: Objects) -> Iterator[str]:
  """The objects of checkpoints and folders of shards that are not whole."""
  checkpoints: dict[str, list[str]] = {}
  for name in listed:
    if match := _CHECKPOINT.match(name):
      checkpoints.setdefault(match[0], []).append(name)
    elif name.endswith(_SHARD):
      folder = name.rpartition("/")[0]
      if f"{folder}/{targets.METADATA}" not in listed:
        yield name
  for folder, names in checkpoints.items():
    mark = f"{folder}/{MARK}"
    if mark not in listed:
      yield from names
    elif (content := objects.read(mark)) is None:  # its run is removing it
      yield from names
    elif lost := _lost(folder, content, listed):
      logging.error("%s/%s is damaged: %s is not as it was written.", objects.url, folder, lost)


def _lost(folder: str, mark: bytes, listed: dict[str, About]) -> str:
  """A file of a checkpoint that is not there, or has another size; '' for none."""
  try:
    files = json.loads(mark)["files"]
  except (ValueError, KeyError, TypeError, RecursionError):
    return MARK
  for file, size in files.items():
    about = listed.get(f"{folder}/{file}")
    if about is None or about.size != size:
      return file
  return ""


def _files(root: pathlib.Path) -> Iterator[tuple[str, tuple[int, int]]]:
  """(name, stamp) of each file but hidden ones and those of an unfinished checkpoint."""
  for folder, folders, files in os.walk(root):
    within = pathlib.Path(folder).name == "checkpoints"
    folders[:] = [f for f in folders if f[0] != "." and (f.isdigit() or not within)]
    for file in files:
      path = pathlib.Path(folder, file)
      if file[0] != "." and not file.endswith(_OF_A_DISK):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
          yield path.relative_to(root).as_posix(), _stamp(path)


def _stamp(path: pathlib.Path) -> tuple[int, int]:
  stat = path.stat()
  return stat.st_size, stat.st_mtime_ns


def _make_folder(kept: contextlib.ExitStack) -> pathlib.Path:
  """A new folder with a lock that goes with this process; `kept` removes it."""
  try:
    folder = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX))
    kept.callback(shutil.rmtree, folder, ignore_errors=True)
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    lock.acquire(blocking=False)
    kept.callback(lock.release)
    inside = folder / "run"
    inside.mkdir()
  except OSError as error:
    kept.close()
    raise DiskError(
      f"{tempfile.gettempdir()}: no folder can be made there to work in ({error.strerror}); set "
      "TMPDIR to a folder with room for a run."
    ) from error
  return inside


def _remove_abandoned() -> None:
  """Removes what killed processes left: folders whose lock nobody holds."""
  for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
    lock = folder / _LOCK
    if not lock.is_file():  # one that is being made, or of somebody else
      continue
    held = filelock.FileLock(lock, thread_local=False)
    try:
      held.acquire(blocking=False)
    except (filelock.Timeout, OSError):
      continue
    shutil.rmtree(folder, ignore_errors=True)
    held.release()
