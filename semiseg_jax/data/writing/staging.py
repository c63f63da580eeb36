"""Where a dataset is written: beside its place, under a lock, and moved there when it is complete.

.NAME.lock              held while somebody prepares NAME; a killed process loses it
.NAME.partial-KEY/      what is being written; KEY says from what, so that it can be continued
.NAME.old/              the dataset that is being replaced, for the moment of the exchange
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from semiseg_jax import files, seals
from semiseg_jax.data.dataset import METADATA
from semiseg_jax.data.writing import shards
from semiseg_jax.errors import DataError


def check_text(metadata: Any) -> None:
  """Raises DataError where a text of the metadata has letters that no file of UTF-8 holds."""
  text = json.dumps(metadata, ensure_ascii=False)
  try:
    text.encode()
  except UnicodeEncodeError as error:
    near = ascii(text[max(0, error.start - 20) : error.end + 20])
    raise DataError(
      f"{near}: a name with bytes that are no UTF-8 cannot be written; give another one (--name)"
    ) from error


class Staging:
  """The locked place of a dataset being written; a context manager.

  Whoever comes second waits for the first one. The folder `partial` is there inside the `with`
  block, with what a killed process of the same `key` left in it; what other keys left is removed.

  Args:
    root: the dataset's folder.
    key: what it is made from, as part of a file name.
    overwrite: replace a finished dataset at `root`, which is otherwise a DataError.
    say: is told what waits or is removed.
    metadata: the file that every finished folder of this kind has.
  """

  def __init__(
    self,
    root: str | os.PathLike,
    *,
    key: str,
    overwrite: bool,
    say: Callable[[str], None],
    metadata: str = METADATA,
  ):
    if "://" in os.fspath(root):
      raise DataError(f"{root}: shards are written to a disk; give a folder (of a mounted bucket).")
    self.root = pathlib.Path(root).absolute()
    self.partial = self.root.with_name(f".{self.root.name}.partial-{key}")
    self._lock_file = self.root.with_name(f".{self.root.name}.lock")
    self._old = self.root.with_name(f".{self.root.name}.old")
    self._overwrite, self._say, self._metadata = overwrite, say, metadata
    self._lock = ExitStack()
    self._check_free()

  def __enter__(self) -> "Staging":
    try:
      self.root.parent.mkdir(parents=True, exist_ok=True)
      self._lock.enter_context(files.locked(self._lock_file, self._say_waiting))
    except OSError as error:
      raise self._not_writable(error) from error
    try:
      self._restore()
      self._check_free()
      self._remove_others()
      self.partial.mkdir(exist_ok=True)
    except OSError as error:
      self._lock.close()
      raise self._not_writable(error) from error
    except BaseException:
      self._lock.close()
      raise
    return self

  def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
    self._lock.close()

  def finish(self, metadata: dict[str, Any]) -> None:
    """Seals the metadata, writes them beside the shards, moves the whole folder to its place."""
    check_text(metadata)
    file = self.partial / self._metadata
    file.write_text(json.dumps(seals.sealed(metadata), ensure_ascii=False), encoding="utf-8")
    shards.remove_summaries(self.partial)
    files.flush(file)
    files.flush(self.partial)
    self.commit()

  def commit(self) -> None:
    """Moves the complete folder to its place."""
    if self._overwrite and self.root.exists():
      self.root.rename(self._old)
    try:
      self.partial.rename(self.root)
    except OSError as error:
      raise DataError(
        f"{self.root} appeared while it was being prepared; another process made "
        "it, use or remove it"
      ) from error
    shutil.rmtree(self._old, ignore_errors=True)

  def discard(self) -> None:
    """Removes what was written."""
    shutil.rmtree(self.partial, ignore_errors=True)

  def _check_free(self) -> None:
    if not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir())):
      return
    if not (self.root / self._metadata).is_file():
      raise DataError(
        f"{self.root} exists and holds no {self._metadata}, so it is not overwritten; choose "
        "another folder"
      )
    if not self._overwrite:
      raise DataError(
        f"{self.root} exists; choose another folder, remove it, or ask to overwrite (--overwrite)"
      )

  def _say_waiting(self) -> None:
    self._say(f"Another process is preparing {self.root}: waiting until it is done.")

  def _restore(self) -> None:
    """Puts a dataset back whose replacement was cut off in the middle of the exchange."""
    if self._old.exists():
      if self.root.exists():
        shutil.rmtree(self._old)
      else:
        self._old.rename(self.root)

  def _remove_others(self) -> None:
    prefix = f".{self.root.name}.partial-"
    for path in sorted(self.root.parent.iterdir()):
      if path.name.startswith(prefix) and path != self.partial:
        self._say(
          f"NOTE: {path} is removed: an unfinished preparation of other pictures or options."
        )
        shutil.rmtree(path)

  def _not_writable(self, error: OSError) -> DataError:
    return DataError(
      f"cannot write to {self.root} ({error}); choose another folder or mend its permissions"
    )
