"""A step in parts equals one step whose losses and batch statistics are those of the parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cps_city
from semiseg_jax.config import rules
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from tests import small_city, small_network

ROWS, PARTS = 6, 3
STREAMS = {
  "method=supervised": ("labeled",),
  "method=cps": ("labeled", "unlabeled"),
  "method=cps_cutmix": ("labeled", "unlabeled", "unlabeled_mix"),
}


def _step(arg, batch, *, parts=1, group=0):
  config = small_city.config("data", arg, train__accumulate=parts, method__loss_group=group)
  config.train.bn_group = group
  method = small_network.method(config, classes=3)
  optimizer = experiment.make_optimizer(config, method)
  with jax.enable_x64(True):
    start = experiment.initial_state(config, method, optimizer)
    wide = lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x
    trees = (start.params, start.stats, start.memory, start.opt_state)
    state = TrainState(start.step, *jax.tree.map(wide, trees))
    step = jax.jit(make_train_step(method, optimizer, 0, parts), static_argnums=2)
    return step(state, batch, frozenset())


def _batch(arg):
  batch = small_network.batch(STREAMS[arg], rows=ROWS, classes=3)
  batch["labeled"]["label"][:, :3] = 255
  batch["labeled"]["label"][0] = 255
  return batch


@pytest.mark.slow
@pytest.mark.parametrize("arg", STREAMS)
def test_parts_equal_groups(arg):
  batch = _batch(arg)
  cut = jax.tree.map(lambda x: x.reshape(PARTS, ROWS // PARTS, *x.shape[1:]), batch)
  whole, expected = _step(arg, batch, group=ROWS // PARTS)
  found, metrics = _step(arg, cut, parts=PARTS)
  small_network.close(found.params, whole.params, rtol=1e-6, atol=1e-9)
  if arg != "method=cps_cutmix":  # of two calls a step, the order of the moves differs
    small_network.close(found.stats, whole.stats, rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(metrics["loss"][0], expected["loss"][0], rtol=1e-6)
  other, _ = _step(arg, batch)
  pairs = zip(jax.tree.leaves(found.params), jax.tree.leaves(other.params))
  assert max(np.abs(a - b).max() for a, b in pairs) > 1e-5, (
    "groups change nothing here: the test sees nothing"
  )


@pytest.mark.parametrize("name", ["cct", "gct", "s4gan", "reco", "u2pl", "cac", "prevmatch"])
def test_a_method_that_needs_its_whole_batch_is_refused_with_all_other_faults(name):
  config = cps_city.get_config(f"method={name}")
  config.train.accumulate, config.train.log_every = 2, 0
  said = "\n".join(rules.faults(config))
  assert "train.accumulate=2: method.name" in said and f"{name!r} needs the whole batch" in said
  assert "train.log_every=0" in said


@pytest.mark.parametrize("name", ["cps", "cps_cutmix", "supervised", "mean_teacher"])
def test_a_method_of_parts_that_share_nothing_is_not(name):
  config = cps_city.get_config(f"method={name}")
  config.train.accumulate = 2
  assert rules.faults(config) == []
