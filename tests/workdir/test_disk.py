"""A work directory that cannot take the run is refused before anything is computed."""

import jax
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.workdir import disk


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(ConfigError, match="file/run cannot be written .*; give a folder of your own"):
    disk.check(str(tmp_path / "file" / "run"), checkpoint=1, keep=1)


def test_a_full_disk_is_said_with_the_bytes_it_lacks(tmp_path):
  with pytest.raises(ConfigError, match=r"MB free, .* need 20,000,000 MB more \(4 of 5,000,000 MB"):
    disk.check(str(tmp_path), checkpoint=5 * 10**12, keep=2)
  disk.check(str(tmp_path / "new"), checkpoint=10, keep=2)
  assert list((tmp_path / "new").iterdir()) == []


def test_bytes_of_a_tree():
  tree = {"a": np.zeros((2, 3), np.float32), "b": jax.ShapeDtypeStruct((5,), np.uint8)}
  assert disk.nbytes(tree) == 29
