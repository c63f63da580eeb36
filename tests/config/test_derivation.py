"""A recipe that was derived from one data set is not used for another."""

import os

import pytest

from semiseg_jax.config import derivation, schema
from semiseg_jax.errors import ConfigError


def _config(root, derived=("train.steps=400: passes",)):
  c = schema.default()
  c.data.root, c.derived = str(root), derived
  return c


@pytest.mark.parametrize("joined", [True, False])
def test_two_roots_are_an_error(tmp_path, joined):
  file = f"configs/own.py:budget=laptop,root={tmp_path}/a"
  argv = ["main", f"--config={file}"] if joined else ["main", "--config", file]
  with pytest.raises(
    ConfigError, match=f"write root={tmp_path}/b and leave --config.data.root out"
  ):
    derivation.check([*argv, f"--config.data.root={tmp_path}/b"], _config(tmp_path / "b"))


def test_one_folder_by_two_paths_is_no_error(tmp_path, capsys):
  os.symlink(tmp_path, tmp_path / "link")
  argv = ["main", f"--config=configs/own.py:root={tmp_path}/a"]
  derivation.check(argv, _config(tmp_path / "link" / "a"))
  derivation.check(argv, _config("elsewhere", ()))  # nothing was derived
  assert not capsys.readouterr().out


def test_lists_that_nothing_was_derived_from_are_said(tmp_path, capsys):
  argv = ["main", "--config=configs/own.py:root=a", "--config.data.labeled=few", "--workdir=w"]
  derivation.check(argv, _config("a"))
  assert "NOTE --config.data.labeled is given: the derived values" in capsys.readouterr().out
