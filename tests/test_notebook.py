"""Training called from Python."""

import os
import pathlib
import subprocess
import sys

import pytest

import semiseg_jax
from semiseg_jax.errors import ConfigError, DataError
from tests import small_city

LIGHT = "import sys, semiseg_jax; assert not {'jax', 'flax', 'numpy'} & set(sys.modules)"


@pytest.mark.slow
def test_importing_is_light(tmp_path):
  repository = pathlib.Path(__file__).parents[1]
  environment = {**os.environ, "PYTHONPATH": str(repository)}
  subprocess.run([sys.executable, "-c", LIGHT], cwd=tmp_path, env=environment, check=True)


def test_the_users_mistakes_are_exceptions(tmp_path):
  with pytest.raises(ConfigError, match="no such file; nearest: configs/cps_toy.py"):
    semiseg_jax.train("configs/cps_toi.py", tmp_path)
  with pytest.raises(ConfigError, match="--config.lr is no key; nearest: optimizer.learning_rate"):
    semiseg_jax.train("configs/cps_toy.py", tmp_path, "lr=1")
  config = small_city.config(tmp_path / "absent")
  with pytest.raises(DataError, match="absent does not exist"):
    semiseg_jax.train(config, tmp_path)
  with pytest.raises(ConfigError, match="seed=1: set the key in the config itself"):
    semiseg_jax.train(config, tmp_path, "seed=1")


def test_there_is_nothing_else():
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    semiseg_jax.trian  # noqa: B018
