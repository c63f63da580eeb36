"""An export is there when it has been checked, whole, and otherwise not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from semiseg_jax import files
from semiseg_jax.errors import ConfigError
from semiseg_jax.workdir import store


@contextlib.contextmanager
def staged(out: str, *, folder: bool = False) -> Iterator[pathlib.Path]:
  """Gives a path to write to, which becomes `out` when the block ends without an error.

  Args:
    out: a file or folder, also gs://... or s3://...; a file that is there is replaced.
    folder: whether it is one, which must be absent or empty.

  Yields:
    A path of the same name in a hidden folder beside it.

  Raises:
    ConfigError: a folder that holds something.
    OSError: the disk is full, or the place cannot be written to.
  """
  parent, name = os.path.split(out.rstrip("/"))
  with store.opened(parent or ".", reads=False) as root:
    place = pathlib.Path(root, name)
    if folder and place.is_dir() and any(place.iterdir()):
      raise ConfigError(f"--out={out} is not empty: choose a new folder, or remove what it holds.")
    with files.hidden(place) as hidden:
      (hidden / name).mkdir() if folder else None
      with files.naming(place):
        yield hidden / name
        if folder and place.is_dir():
          place.rmdir()
        files.commit(hidden / name, place)
