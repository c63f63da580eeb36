"""A recipe is derived from the data set that it is used for."""

import os

import pytest

from semiseg_jax.config import derivation, schema

FILE = "configs/own.py:budget=laptop,root={}/a,ratio=1_8"


@pytest.mark.parametrize("joined", [True, False])
def test_of_two_roots_that_of_the_key_counts(tmp_path, joined, capsys):
  one, other = FILE.format(tmp_path), f"--config.data.root={tmp_path}/b"
  argv = ["main", *([f"--config={one}"] if joined else ["--config", one]), other, "--workdir=w"]
  found = derivation.with_given_root(argv)
  assert f"NOTE root={tmp_path}/b, as" in capsys.readouterr().out
  assert found == [argument.replace("/a,ratio", "/b,ratio") for argument in argv]


@pytest.mark.parametrize("other", ["--config.data.root={}/link/a", "--config.seed=1"])
def test_one_folder_by_two_paths_is_no_other(tmp_path, capsys, other):
  os.symlink(tmp_path, tmp_path / "link")
  argv = ["main", f"--config={FILE.format(tmp_path)}", other.format(tmp_path)]
  assert derivation.with_given_root(argv) == argv
  fixed = ["main", "--config=configs/cps_voc.py:ratio=1_8", "--config.data.root=b"]
  assert derivation.with_given_root(fixed) == fixed
  assert not capsys.readouterr().out


@pytest.mark.parametrize("derived", [True, False])
def test_lists_that_nothing_was_derived_from_are_said(capsys, derived):
  argv = ["main", "--config=configs/own.py:root=a", "--config.data.labeled=few", "--workdir=w"]
  config = schema.default()
  config.derived = ("train.steps=400: passes",) * derived
  derivation.say_other_lists(argv, config)
  said = "NOTE --config.data.labeled is given: the derived values" in capsys.readouterr().out
  assert said == derived
