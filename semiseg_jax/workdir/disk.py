"""What can be known of a work directory before anything is computed."""

import errno
import os
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np

from semiseg_jax.errors import ConfigError, mend

Tree = Any
_OS_ERROR = re.compile(r"os_error_code='(\d+)'|\[Errno (\d+)\]")
_TEXT = 300  # letters of what a library says


def check(workdir: str, *, checkpoint: int, keep: int) -> None:
  """Raises ConfigError where `workdir` cannot be written, or its disk is too small for the run.

  Args:
    workdir: made when it is not there.
    checkpoint: bytes of one.
    keep: how many are kept; the best one and the one being written come on top.
  """
  path = pathlib.Path(workdir)
  probe = path / f".probe-{jax.process_index()}-{os.getpid()}"
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe.write_bytes(b"0")
    probe.unlink()
  except OSError as error:
    raise ConfigError(
      f"--workdir={workdir} cannot be written ({error.strerror}): {mend(error.errno)}."
    ) from error
  held = sum(f.stat().st_size for f in path.glob("checkpoints/**/*") if f.is_file())
  needed, free = (keep + 2) * checkpoint - held, shutil.disk_usage(path).free
  if needed > free:
    raise ConfigError(
      f"--workdir={workdir}: its disk has {free / 1e6:,.0f} MB free, the checkpoints of this run "
      f"need {needed / 1e6:,.0f} MB more ({keep + 2} of {checkpoint / 1e6:,.0f} MB). Free some "
      "space, give another --workdir, or lower --config.checkpoint.keep."
    )


def why(error: BaseException, folder: str | os.PathLike[str]) -> str:
  """Returns why something was not written to `folder`, and what to do; the disk is blamed if it is.

  Args:
    error: of a library; its number of the system stands in it, in its text, or in what caused it.
    folder: where.
  """
  text = f"{type(error).__name__}: {' '.join(str(error).split())[:_TEXT]}"
  number = _errno(error)
  if number == errno.ENOENT:
    return (
      f"something in it was removed while this run wrote there: let no other program tidy up in it "
      f"({text})"
    )
  if number is None:
    return f"not for want of a disk, as far as can be seen: {text}"
  free = shutil.disk_usage(folder).free / 1e6
  return f"{os.strerror(number)}: {mend(number)}; its disk has {free:,.0f} MB free"


def _errno(error: BaseException | None) -> int | None:
  """Of the first error of the system in a chain; TensorStore writes the number into its text."""
  seen: set[int] = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    if isinstance(error, OSError) and error.errno is not None:
      return error.errno
    found = _OS_ERROR.search(str(error))
    if found:
      return int(found[1] or found[2])
    error = error.__cause__ or error.__context__
  return None


def kept(checkpoint: Any) -> int:
  """Returns how many checkpoints are kept by the config block `checkpoint`, beside the best one."""
  return checkpoint.keep + checkpoint.spaced


def nbytes(tree: Tree) -> int:
  """Returns the bytes of all arrays of a tree, or of `jax.ShapeDtypeStruct`s."""
  return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
