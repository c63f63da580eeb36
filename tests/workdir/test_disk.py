"""A work directory that cannot take the run is refused before anything is computed."""

import errno

import jax
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.workdir import disk


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(ConfigError, match="file/run cannot be written .*: correct the path"):
    disk.check(str(tmp_path / "file" / "run"), checkpoint=1, keep=1)


def test_a_full_disk_is_said_with_the_bytes_it_lacks(tmp_path):
  with pytest.raises(ConfigError, match=r"MB free, .* need 20,000,000 MB more \(4 of 5,000,000 MB"):
    disk.check(str(tmp_path), checkpoint=5 * 10**12, keep=2)
  disk.check(str(tmp_path / "new"), checkpoint=10, keep=2)
  assert list((tmp_path / "new").iterdir()) == []


def test_bytes_of_a_tree():
  tree = {"a": np.zeros((2, 3), np.float32), "b": jax.ShapeDtypeStruct((5,), np.uint8)}
  assert disk.nbytes(tree) == 29


def _caused(text, cause=None):
  error = ValueError(text)
  error.__cause__ = cause
  return error


@pytest.mark.parametrize(
  "error, said, blamed",
  [
    (_caused("RESOURCE_EXHAUSTED: Failed to write 8 bytes [os_error_code='28']"), "No space", True),
    (_caused("a future", OSError(errno.EDQUOT, "Disk quota exceeded")), "quota", True),
    (_caused("Failed writing [os_error_code='13']"), "Permission denied: mend its perm", True),
    (_caused("[Errno 27] File too large"), "ulimit -f", True),
    (_caused("Barrier timed out"), "ValueError: Barrier timed out", False),
    (_caused("NOT_FOUND: [os_error_code='2']"), "let no other program tidy up", False),
    (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug", False),
  ],
)
def test_a_failed_write_is_blamed_on_the_disk_where_it_is_at_fault(tmp_path, error, said, blamed):
  found = disk.why(error, tmp_path)
  assert said in found and ("MB free" in found) == blamed
