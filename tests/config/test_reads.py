"""A run really reads every key that the rules do not call unread: none is without an effect."""

import json

import pytest
from ml_collections import ConfigDict

from semiseg_jax import train
from semiseg_jax.config import reads, rules, schema
from semiseg_jax.methods import contract
from semiseg_jax.training import prepare
from tests import small_city

# Commands read these before there is a loop, or after it: evaluate --mode=whole.
BY_COMMANDS = {"runtime.compilation_cache", "runtime.cpu_xla_flags", "eval.whole", "eval.multiple"}


@pytest.fixture
def recorded(monkeypatch):
  """Returns record(config) -> the paths that are read of it from then on."""
  prefixes, seen, copies = {}, set(), []
  get, copied = ConfigDict.__getitem__, ConfigDict.copy_and_resolve_references

  def record(config, prefix=""):
    for name in config:
      if isinstance(config[name], ConfigDict):
        record(config[name], f"{prefix}{name}.")
    prefixes[id(config)] = prefix
    return seen

  def getitem(self, name):
    value = get(self, name)
    if id(self) in prefixes and not isinstance(value, ConfigDict):
      seen.add(f"{prefixes[id(self)]}{name}")
    return value

  def copy(self, *args):
    before = set(seen)
    other = copied(self, *args)
    seen.intersection_update(before)
    if prefixes.get(id(self)) == "":
      copies.append(other)  # or its id would be that of another block soon
      record(other)
    return other

  monkeypatch.setattr(ConfigDict, "__getitem__", getitem)
  monkeypatch.setattr(ConfigDict, "copy_and_resolve_references", copy)
  # Neither a check of a value nor its copy into a file is a use of it.
  monkeypatch.setattr(rules, "validate", lambda config, stage=False: None)
  for name in ("to_dict", "to_json_best_effort"):
    monkeypatch.setattr(ConfigDict, name, _unrecorded(seen, getattr(ConfigDict, name)))
  return record


def _unrecorded(seen, method):
  def call(self, *args, **kwargs):
    before = set(seen)
    result = method(self, *args, **kwargs)
    seen.intersection_update(before)
    return result

  return call


def test_recording(recorded):
  config = schema.default()
  seen = recorded(config)
  assert config.train.steps == 0 and dict(**config.model.fcn)
  json.loads(config.to_json_best_effort())
  assert seen == {"train.steps", "model.fcn.variant", "model.fcn.align_corners"}


@pytest.mark.slow
def test_a_run_reads_every_key_that_is_not_called_unread(recorded, tmp_path):
  small_city.write(tmp_path / "data")
  changes = {"train__steps": 2, "eval__mode": "slide", "eval__window": (32, 32)}
  config = small_city.config(tmp_path / "data", **changes)
  unread, of_method = reads.unread(config).keys(), contract.reads(config)
  seen = recorded(config)
  prepare.prepare(config)
  train.train(config, str(tmp_path / "run"))
  assert schema.table().keys() - unread - seen - BY_COMMANDS == set()
  assert {path for path in seen if path.startswith("method.")} - of_method == set()
