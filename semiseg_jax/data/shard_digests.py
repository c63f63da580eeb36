"""The whole SHA-256 of shards, compared with what their sealed description says of them.

Two shards may be of one size and begin alike: when a dataset is opened they look the same.  What
was compared is remembered, in this process and in a file of a run, by path, size, time of change
and inode: a later start reads only what is another file than it was.  Processes that see the same
files share them; one with a disk of its own reads its own.  Shards without a SHA-256 (tfds) are
passed over.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from semiseg_jax import files, peers, seals
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.shard_reader import ShardInfo
from semiseg_jax.errors import DataError

FILE = "compared_shards.json"
MOST = 4 << 30  # bytes that a command reads which only looks at a part of a dataset
_AT_ONCE = 8
_QUIET_S = 3.0  # after which it is said what takes so long
_WAIT_S = 24 * 3600  # for other processes; one that is gone ends the wait
_compared: set["_Found"] = set()  # by this process


class Folder(Protocol):
  """A dataset, or stored targets."""

  root: str
  shards: tuple[ShardInfo, ...]


class _Found(NamedTuple):
  """A file as it lies there, and the SHA-256 that it is to have."""

  path: str
  size: int
  mtime_ns: int
  inode: int
  sha256: str


def folders(*read: "Folder | JoinedDataset | None") -> list[Folder]:
  """Returns what has shards of its own, each once; None is nothing."""
  every: dict[str, Folder] = {}
  for one in read:
    for part in (one.first, one.second) if isinstance(one, JoinedDataset) else (one,):
      if part is not None:
        every.setdefault(part.root, part)
  return list(every.values())


def compare(
  read: Iterable[Folder], memory: str | os.PathLike | None = None, most: int | None = None
) -> None:
  """Compares every shard; all processes of a run call it and all have the same outcome.

  Args:
    read: as `folders` gives it.
    memory: the folder of a run, where what was compared is kept; None to keep nothing.
    most: where more bytes than these would have to be read, nothing is, and that is said.

  Raises:
    DataError: a shard is not the one that was written, or cannot be read; it names all such.
  """
  every = [_look(folder, shard) for folder in read for shard in folder.shards if shard.sha256]
  recalled = _recalled(memory)
  rest = [found for found in every if found not in recalled | _compared]
  size = sum(found.size for found in rest)
  if most is not None and size > most:
    print(
      f"NOTE of {size / 1e9:,.1f} GB of shards only sizes and first bytes were compared: "
      "`python -m data_prep.inspect FOLDER` reads all of them",
      flush=True,
    )
    return
  problems = _problems(rest, size)
  if problems:
    raise DataError.of_all(
      "shards are not those that their dataset was written with; put them back, or prepare the "
      "dataset again (`python -m data_prep.inspect FOLDER` says what is wrong):",
      problems,
    )
  _compared.update(every)
  if memory and _is_first() and not recalled.issuperset(every):
    _remember(memory, every)


def _problems(rest: Sequence[_Found], size: int) -> list[str]:
  """A line on each file that is not as it is to be, in whatever process that was seen."""
  line = f"Comparing {size / 1e9:,.1f} GB of shards with their SHA-256." if _is_first() else ""
  with _told_when_slow(line), concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    lines = [line for line in pool.map(_problem, _share(rest)) if line]
    told = peers.told("\n".join(lines), wait_s=_WAIT_S)
  return list(dict.fromkeys(line for lines in told.values() for line in lines.split("\n")))


def _is_first() -> bool:
  import jax

  return jax.process_index() == 0


def _look(folder: Folder, shard: ShardInfo) -> _Found:
  path = os.path.join(folder.root, shard.file)
  try:
    about = os.stat(path)
  except OSError:  # which reading it will tell
    return _Found(path, shard.bytes, 0, 0, shard.sha256)
  return _Found(path, about.st_size, about.st_mtime_ns, about.st_ino, shard.sha256)


def _share(rest: Sequence[_Found]) -> Sequence[_Found]:
  """Those of this process: processes that see the same files take turns."""
  import jax

  if jax.process_count() == 1:
    return rest
  seen = hashlib.sha256(repr(list(rest)).encode()).hexdigest()
  told = peers.told(seen, wait_s=_WAIT_S)
  same = [process for process, other in told.items() if other == seen]
  return rest[same.index(jax.process_index()) :: len(same)]


def _problem(found: _Found) -> str:
  try:
    with open(found.path, "rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    return f"{found.path}: cannot be read ({error.strerror})"
  if digest != found.sha256:
    return f"{found.path}: other bytes than were written: it was exchanged, or is damaged"
  return ""


@contextlib.contextmanager
def _told_when_slow(line: str) -> Iterator[None]:
  """Prints a line, unless it is empty, when the block lasts long."""
  timer = threading.Timer(_QUIET_S, print, (line,), {"flush": True})
  timer.daemon = True
  if line:
    timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _recalled(memory: str | os.PathLike | None) -> set[_Found]:
  if not memory:
    return set()
  try:
    saved = json.loads(pathlib.Path(memory, FILE).read_bytes())
    if seals.problem(saved, required=True):
      return set()
    return {_Found(*row) for row in saved["shards"]}
  except (OSError, ValueError, LookupError, TypeError, RecursionError):
    return set()  # all are read again


def _remember(memory: str | os.PathLike, every: Sequence[_Found]) -> None:
  text = json.dumps(seals.sealed({"shards": sorted(every)}), indent=0)
  files.write_text(pathlib.Path(memory, FILE), text + "\n")
