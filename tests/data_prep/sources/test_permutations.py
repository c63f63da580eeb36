"""Pickled orders: every form in which they are published, and nothing that runs."""

import os
import pickle

import numpy as np
import pytest

from data_prep.sources.permutations import read_permutation
from semiseg_jax.errors import DataError

ORDER = np.random.default_rng(0).permutation(300)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", ["list", "tuple", "array", "int32", "big", "numbers"])
def test_a_permutation_in_any_form(tmp_path, form, protocol):
  content = {
    "list": ORDER.tolist(),
    "tuple": tuple(ORDER.tolist()),
    "array": ORDER,
    "int32": ORDER.astype(np.int32),
    "big": ORDER.astype(">i8"),
    "numbers": list(ORDER),
  }[form]
  path = tmp_path / "split.pkl"
  path.write_bytes(pickle.dumps(content, protocol))
  np.testing.assert_array_equal(read_permutation(path, len(ORDER)), ORDER)


def test_names_of_older_numpy_are_known(tmp_path):
  data = pickle.dumps(ORDER, 2)
  assert b"numpy._core" in data or b"numpy.core" in data
  path = tmp_path / "split.pkl"
  path.write_bytes(data.replace(b"numpy._core", b"numpy.core"))
  np.testing.assert_array_equal(read_permutation(path, len(ORDER)), ORDER)


def test_a_pickle_of_python_2(tmp_path):
  """There bytes are strings: (dtype, order, bytes) without a detour."""
  raw = ORDER.astype("<i8").tobytes()
  quoted = repr(raw)[1:].encode("latin1")
  data = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%d\ntcnumpy\n"
    b"dtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS%s\ntb." % (len(ORDER), quoted)
  )
  path = tmp_path / "split.pkl"
  path.write_bytes(data)
  np.testing.assert_array_equal(read_permutation(path, len(ORDER)), ORDER)


class _Hostile:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (self.path,)


def test_nothing_runs(tmp_path):
  path, made = tmp_path / "split.pkl", tmp_path / "made"
  path.write_bytes(pickle.dumps(_Hostile(str(made))))
  with pytest.raises(DataError, match="split.pkl is no pickle .*names .*mkdir.*nothing else is"):
    read_permutation(path, 3)
  assert not made.exists()
  pickle.loads(path.read_bytes())
  assert made.exists(), "the pickle would have run"


@pytest.mark.parametrize(
  "content, message",
  [
    ([0, 1, 3], "3 positions that are not those of 0 to 2"),
    ([0, 1], "2 positions .* the list of 3 pictures"),
    ([0, 1, True], "no row of integers"),
    ({"ids": [0, 1, 2]}, "no row of integers"),
    (np.zeros((3, 1), np.int64), "no row of integers"),
    (np.arange(3.0), "no row of integers"),
    (np.array([0, 1, "2"], object), "no row of integers"),
  ],
)
def test_other_contents_are_refused(tmp_path, content, message):
  path = tmp_path / "split.pkl"
  path.write_bytes(pickle.dumps(content))
  with pytest.raises(DataError, match=message):
    read_permutation(path, 3)


def test_no_file_and_damaged_ones(tmp_path):
  with pytest.raises(DataError, match="missing.pkl cannot be read"):
    read_permutation(tmp_path / "missing.pkl", 3)
  whole, path = pickle.dumps(ORDER), tmp_path / "split.pkl"
  for end in range(0, len(whole) - 1, 61):
    path.write_bytes(whole[:end])
    with pytest.raises(DataError, match="is no pickle"):
      read_permutation(path, len(ORDER))
