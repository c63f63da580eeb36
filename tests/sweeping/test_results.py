"""Which configs are those of one run, and of which kind a result is."""

import json

from configs import cps_toy
from semiseg_jax.sweeping import results


def saved(config):
  return json.loads(config.to_json())


def test_measured_statistics_are_no_other_run():
  config = cps_toy.get_config("method=supervised")
  run = cps_toy.get_config("method=supervised")
  run.data.mean, run.data.std = (0.1, 0.2, 0.3), (0.1, 0.1, 0.1)  # as a run keeps what it measured
  assert results.is_same(saved(run), config)
  config.data.mean = (0.4, 0.4, 0.4)  # given
  found = results.differences(saved(run), config)
  assert found == {"data.mean": ((0.1, 0.2, 0.3), (0.4, 0.4, 0.4))}


def test_free_keys_and_unknown_keys():
  config, other = (cps_toy.get_config("method=supervised") for _ in range(2))
  other.eval.every, other.runtime.track = 7, "wandb"
  assert results.is_same(saved(other), config)
  other.train.steps = 3
  assert results.differences(saved(other), config) == {"train.steps": (3, 1500)}
  assert not results.is_same({**saved(config), "future": 1}, config)
