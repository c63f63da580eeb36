"""The locked place of a dataset being written."""

import fcntl

import pytest

from semiseg_jax.data.dataset import METADATA
from semiseg_jax.data.writing.staging import Staging, check_text
from semiseg_jax.errors import DataError


def _staging(root, key="k", overwrite=False, said=None):
  say = print if said is None else said.append
  return Staging(root, key=key, overwrite=overwrite, say=say)


def _dataset(root, text):
  root.mkdir()
  (root / METADATA).write_text(text)


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_what_is_written_stands_beside_until_commit(tmp_path):
  with _staging(tmp_path / "deep/d") as staging:
    assert _names(tmp_path / "deep") == [".d.lock", ".d.partial-k"]
    (staging.partial / METADATA).write_text("new")
    staging.commit()
  assert _names(tmp_path / "deep") == ["d"] and (tmp_path / "deep/d" / METADATA).exists()


def test_remains_of_the_same_key_are_found_and_others_removed(tmp_path):
  with _staging(tmp_path / "d") as staging:
    (staging.partial / "done").touch()
  (tmp_path / ".d.partial-other").mkdir()
  (tmp_path / ".e.partial-other").mkdir()
  said = []
  with _staging(tmp_path / "d", said=said) as staging:
    assert (staging.partial / "done").exists()
  assert len(said) == 1 and ".d.partial-other is removed" in said[0]
  assert _names(tmp_path) == [".d.partial-k", ".e.partial-other"]


def test_a_name_that_is_no_utf_8_is_refused_at_once_and_ascii_tells_it():
  check_text({"name": "Zürich", "ids": ["a"]})
  with pytest.raises(DataError, match=r"Z\\xfc\\udcff.*no UTF-8.*--name"):
    check_text({"name": "Zü\udcff"})


def test_overwrite_exchanges(tmp_path):
  _dataset(tmp_path / "d", "old")
  with pytest.raises(DataError, match="d exists; choose another folder"):
    _staging(tmp_path / "d")
  with _staging(tmp_path / "d", overwrite=True) as staging:
    (staging.partial / METADATA).write_text("new")
    assert (tmp_path / "d" / METADATA).read_text() == "old"
    staging.commit()
  assert (tmp_path / "d" / METADATA).read_text() == "new" and _names(tmp_path) == ["d"]


def test_an_exchange_cut_off_in_the_middle_is_undone(tmp_path):
  """Killed after the old dataset was moved away, before the new one came."""
  _dataset(tmp_path / ".d.old", "old")
  with pytest.raises(DataError, match="d exists; choose another folder"), _staging(tmp_path / "d"):
    pass
  assert (tmp_path / "d" / METADATA).read_text() == "old" and _names(tmp_path) == ["d"]


def test_an_exchange_cut_off_at_the_end_is_finished(tmp_path):
  _dataset(tmp_path / ".d.old", "old")
  _dataset(tmp_path / "d", "new")
  with _staging(tmp_path / "d", overwrite=True) as staging:
    staging.discard()
  assert (tmp_path / "d" / METADATA).read_text() == "new" and _names(tmp_path) == ["d"]


def test_what_is_no_dataset_is_never_replaced(tmp_path):
  (tmp_path / "d").mkdir()
  with _staging(tmp_path / "d", overwrite=True) as staging:  # an empty folder is
    staging.discard()
  (tmp_path / "d/thesis").touch()
  with pytest.raises(DataError, match="holds no dataset.json, so it is not overwritten"):
    _staging(tmp_path / "d", overwrite=True)


def test_a_lock_file_left_by_a_killed_process_is_taken_over(tmp_path):
  (tmp_path / ".d.lock").touch()
  said = []
  with _staging(tmp_path / "d", said=said) as staging:
    staging.discard()
    with (tmp_path / ".d.lock").open() as other, pytest.raises(BlockingIOError):
      fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
  assert said == [] and _names(tmp_path) == []


def test_an_error_inside_frees_the_lock(tmp_path):
  with pytest.raises(RuntimeError), _staging(tmp_path / "d"):
    raise RuntimeError
  assert _names(tmp_path) == [".d.partial-k"]
