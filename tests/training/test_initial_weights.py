"""Starting from another run: exact copies, no twins, and errors that name init_from."""

import dataclasses
import logging
import re

import jax
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.errors import CheckpointError
from semiseg_jax.training import experiment, initial_weights
from semiseg_jax.workdir import checkpoints
from tests import small_city, small_network

DATASET = {"classes": ["a", "b", "c", "d"], "colors": [[0, 0, 0]] * 4, "channels": 3}


def _method(n, **changes):
  arg = "ratio=1_4,method=cps" if n > 1 else "ratio=1_4,method=supervised"
  config = small_city.config("data", arg, method__networks=n, **changes)
  mesh = sharding.make_mesh()
  method = experiment.make_method(config, mesh, classes=4, channels=3)
  return config, method


def _state(n, seed):
  config, method = _method(n, seed=seed)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  moved = jax.tree.map(lambda x: x + 1 + seed, state.stats)
  return config, method, dataclasses.replace(state, stats=moved)


def _save(workdir, n):
  config, method, state = _state(n, seed=1)
  nets = experiment.describe_nets(method, method.evaluated)
  meta = {"config": config.to_dict(), "dataset": DATASET, **nets}
  saved = checkpoints.Checkpoints(workdir)
  saved.save(state, meta, None)
  saved.close()
  return _networks(state)


def _networks(state):
  return {"params": state.params["networks"], "stats": state.stats["networks"]}


def _start(workdir, n, caplog):
  _, method, fresh = _state(n, seed=2)
  with caplog.at_level(logging.WARNING):
    started = initial_weights.start_from(str(workdir), method, fresh)
  return _networks(started), _networks(fresh)


def _equal(a, b):
  small_network.close(a, b, rtol=0, atol=0)


def _part(networks, part, copies):
  return {kind: jax.tree.map(lambda x: x[copies], tree[part]) for kind, tree in networks.items()}


def test_equal_numbers_are_an_exact_copy(tmp_path, caplog):
  old = _save(tmp_path, 2)
  new, _ = _start(tmp_path, 2, caplog)
  _equal(new, old)
  assert "init_from" not in caplog.text


def test_more_networks_share_encoders_and_keep_their_own_decoders(tmp_path, caplog):
  old = _save(tmp_path, 2)
  new, fresh = _start(tmp_path, 5, caplog)
  _equal(_part(new, "encoder", slice(None)), _part(old, "encoder", np.array([0, 1, 0, 1, 0])))
  _equal(_part(new, "decoder", slice(2)), _part(old, "decoder", slice(2)))
  _equal(_part(new, "decoder", slice(2, 5)), _part(fresh, "decoder", slice(2, 5)))
  kernels = np.asarray(new["params"]["decoder"]["classifier"]["kernel"])
  assert len({kernel.tobytes() for kernel in kernels}) == 5, "twins learn nothing from each other"
  told = re.findall(r"network (\d) takes the encoder of its network (\d)", caplog.text)
  assert told == [("2", "0"), ("3", "1"), ("4", "0")]


def test_fewer_networks_are_the_first_ones(tmp_path, caplog):
  old = _save(tmp_path, 2)
  new, _ = _start(tmp_path, 1, caplog)
  _equal(new, jax.tree.map(lambda x: x[:1], old))
  assert "the first 1 are used" in caplog.text


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_a_run_is_a_matter_of_init_from(tmp_path, caplog, make):
  if make:
    (tmp_path / "nowhere" / "checkpoints").mkdir(parents=True)
  with pytest.raises(CheckpointError) as error:
    _start(tmp_path / "nowhere", 2, caplog)
  assert str(error.value).startswith(f"init_from={str(tmp_path / 'nowhere')!r}")
  assert "--workdir" not in str(error.value)
