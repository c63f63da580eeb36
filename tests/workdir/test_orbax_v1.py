"""Orbax's next API, which becomes its top level at 1.0, reads the checkpoints that we write."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.state import TrainState
from semiseg_jax.workdir.checkpoints import Checkpoints

v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")

META = {"config": {"seed": 3, "name": "run"}, "dataset": {"classes": ["road"]}, "stacks": {"a": 2}}


@pytest.fixture
def written(tmp_path):
  """A folder with one checkpoint, and the leaves that were put in."""
  rng = np.random.default_rng(0)
  shapes = ((2, 4, 5), (2, 5), (2,), (3, 4))
  kernel, mean, trace, rows = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
  state = TrainState(
    np.int32(7), {"a": {"kernel": kernel}}, {"a": {"mean": mean}}, {"b": trace}, (2 * trace,)
  )
  saved = Checkpoints(tmp_path)
  saved.save(jax.tree.map(jnp.asarray, state), META, 0.5)
  saved.close()
  return tmp_path / "checkpoints" / "7", kernel, mean, trace, rows


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_the_next_api_reads_every_item(written):
  path, kernel, mean, trace, rows = written
  items = v1.load_checkpointables(path)
  assert {"model", "train", "meta"} <= set(items)
  np.testing.assert_array_equal(items["model"]["params"]["a"]["kernel"], kernel)
  np.testing.assert_array_equal(items["model"]["batch_stats"]["a"]["mean"], mean)
  np.testing.assert_array_equal(items["train"]["memory"]["b"], trace)
  np.testing.assert_array_equal(jax.tree.leaves(items["train"]["opt_state"])[0], 2 * trace)
  assert int(items["train"]["step"]) == 7
  assert {key: items["meta"][key] for key in META} == json.loads(json.dumps(META))
