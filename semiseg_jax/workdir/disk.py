"""What can be known of a work directory before anything is computed."""

import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from semiseg_jax.errors import ConfigError

Tree = Any


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
      f"--workdir={workdir} cannot be written ({error.strerror}); give a folder of your own."
    ) from error
  held = sum(f.stat().st_size for f in path.glob("checkpoints/**/*") if f.is_file())
  needed, free = (keep + 2) * checkpoint - held, shutil.disk_usage(path).free
  if needed > free:
    raise ConfigError(
      f"--workdir={workdir}: its disk has {free / 1e6:,.0f} MB free, the checkpoints of this run "
      f"need {needed / 1e6:,.0f} MB more ({keep + 2} of {checkpoint / 1e6:,.0f} MB). Free some "
      "space, give another --workdir, or lower --config.checkpoint.keep."
    )


def kept(checkpoint: Any) -> int:
  """Returns how many checkpoints are kept by the config block `checkpoint`, beside the best one."""
  return checkpoint.keep + checkpoint.spaced


def nbytes(tree: Tree) -> int:
  """Returns the bytes of all arrays of a tree, or of `jax.ShapeDtypeStruct`s."""
  return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
