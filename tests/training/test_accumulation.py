"""A step in parts equals one step whose losses and batch statistics are those of the parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from tests import small_city, small_network

pytestmark = pytest.mark.slow

ROWS, PARTS = 6, 3
STREAMS = ("labeled", "unlabeled", "unlabeled_mix")


def _step(arg, batch, *, parts=1, group=0):
  config = small_city.config("data", arg, train__accumulate=parts, method__loss_group=group)
  small = small_network.make_stack(sharding.make_mesh(), bn_group=group)
  method = contract.find(config.method.name).build(config, small)
  optimizer = experiment.make_optimizer(config, method)
  with jax.enable_x64(True):
    start = experiment.initial_state(config, method, optimizer)
    wide = lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x
    trees = jax.tree.map(wide, (start.params, start.state, start.opt_state))
    state = TrainState(start.step, *trees)
    return jax.jit(make_train_step(method, optimizer, 0, parts), static_argnums=2)(state, batch, 0)


def _batch():
  batch = small_network.batch(STREAMS, rows=ROWS, classes=3)
  batch["labeled"]["label"][:, :3] = 255
  batch["labeled"]["label"][0] = 255
  return batch


@pytest.mark.parametrize("arg", ["method=supervised", "method=cps", "method=cps_cutmix"])
def test_parts_equal_groups(arg):
  batch = _batch()
  cut = jax.tree.map(lambda x: x.reshape(PARTS, ROWS // PARTS, *x.shape[1:]), batch)
  whole, expected = _step(arg, batch, group=ROWS // PARTS)
  found, metrics = _step(arg, cut, parts=PARTS)
  small_network.close(found.params, whole.params, rtol=1e-6, atol=1e-9)
  if arg != "method=cps_cutmix":  # of two calls a step, the order of the moves differs
    small_network.close(found.state, whole.state, rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(metrics["loss"][0], expected["loss"][0], rtol=1e-6)
  other, _ = _step(arg, batch)
  pairs = zip(jax.tree.leaves(found.params), jax.tree.leaves(other.params))
  assert max(np.abs(a - b).max() for a, b in pairs) > 1e-5, (
    "groups change nothing here: the test sees nothing"
  )


def test_a_method_that_needs_its_whole_batch_is_refused(monkeypatch):
  config = small_city.config("data", "method=cps", train__accumulate=2)
  build = contract.find("cps").build

  def whole(config, make_stack):
    method = build(config, make_stack)
    object.__setattr__(method, "divisible", False)
    return method

  monkeypatch.setattr(contract.find("cps"), "build", whole)
  with pytest.raises(ConfigError, match="train.accumulate=2: .*'cps' needs the whole batch"):
    experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
