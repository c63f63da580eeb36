"""Runs that an earlier commit saved are resumed, scored, predicted with, exported and begun from.

What is expected was written by that commit: see old_runs/README.txt.
"""

import json
import math
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from semiseg_jax import evaluate, export, predict, train
from semiseg_jax.config import schema
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.models.torch.files import read_state_dict
from semiseg_jax.training import experiment, initial_weights
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city

pytestmark = pytest.mark.slow

OLD = pathlib.Path(__file__).parent / "old_runs"
EXPECTED = json.loads((OLD / "expected.json").read_text())
AT, END = 3, 6
TRAINED = [name for name in EXPECTED if "leaves" in EXPECTED[name]]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
  """An empty folder with the data; the configs name them as 'data'."""
  shutil.unpack_archive(OLD / "data.tar.xz", tmp_path, filter="data")
  monkeypatch.chdir(tmp_path)


def _unpack(name):
  shutil.unpack_archive(OLD / f"{name}.tar.xz", ".", filter="data")
  return name


def _config(name):
  """The run's own config, with the keys of today."""
  config = json.loads((pathlib.Path(name) / "config.json").read_text())
  return ConfigDict(schema.complete(config))


def _sums(x):
  x = np.asarray(x, np.float64).ravel().tolist()
  return [math.fsum(map(abs, x)), math.sqrt(math.fsum(v * v for v in x))]


def _leaves(tree, prefix):
  return {f"{prefix}/{k}": _sums(x) for k, x in flatten_dict(tree, sep="/").items()}


def _end(name):
  """What the last checkpoint holds, as `expected.json` has it."""
  folder = pathlib.Path(name).absolute() / "checkpoints" / str(END)
  model, state = (ocp.PyTreeCheckpointer().restore(folder / item) for item in ("model", "train"))
  leaves = _leaves(model["params"], "params") | _leaves(model["batch_stats"], "batch_stats")
  for memory in state["memory"].values():
    leaves |= _leaves(memory, "own/memory")
  moments = [np.asarray(x).ravel() for x in jax.tree.leaves(state["opt_state"])]
  return leaves, [len(moments), *_sums(np.concatenate(moments))]


def _today(key):
  """A metric of a class: its number then, its name now."""
  start, slash, number = key.rpartition("histogram/")
  return f"{start}{slash}{small_city.CLASSES[int(number)]}" if slash else key


def _rows(name):
  """(step, key) -> value, of the steps after the one that was resumed."""
  lines = (pathlib.Path(name) / "metrics.jsonl").read_text().splitlines()
  rows = [row for row in map(json.loads, lines) if row["step"] > AT]
  return {(row["step"], k): v for row in rows for k, v in row.items()}


def _close(found, expected, rtol, what):
  """Asserts that two {name: numbers} are close, and prints where they are farthest apart."""
  assert found.keys() >= expected.keys(), sorted(expected.keys() - found.keys())
  pairs = {k: (np.asarray(found[k], np.float64), np.asarray(v)) for k, v in expected.items()}
  far = {k: np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12)) for k, (a, b) in pairs.items()}
  worst = max(far, key=far.get)
  print(f"{what}: {len(far)} compared, the worst is off by {far[worst]:.2g}: {worst}")
  for key, (a, b) in pairs.items():
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7, err_msg=f"{what}: {key}")


def _first_picture():
  dataset = Dataset.open("data")
  return dataset.read(dataset.index(dataset.info.lists["val"][0])).image


def _check_labels(name):
  expected, image = EXPECTED[name], _first_picture()
  for key, network in (("labels_step_3", None), ("labels_step_3_network_1", "1")):
    if key in expected:
      labels = predict.load_predictor(name, step=AT, network=network)(image)
      np.testing.assert_array_equal(labels, expected[key])


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_is_read_and_goes_on_to_its_end(name):
  expected = EXPECTED[_unpack(name)]
  _check_labels(name)
  assert evaluate.evaluate(name, step=AT)["miou"] == pytest.approx(expected["miou_step_3"])
  config = _config(name)
  config.train.log_every = 2  # then, rows of each step came one step late: that of 5 was empty
  train.train(config, name)
  leaves, moments = _end(name)
  assert leaves.keys() == expected["leaves"].keys()
  _close(leaves, expected["leaves"], 1e-3, f"{name}, leaves")
  _close({"moments": moments}, {"moments": expected["opt_state"]}, 1e-3, f"{name}, optimizer")
  rows = _rows(name)
  wanted = {(row["step"], _today(k)): v for row in expected["rows"] for k, v in row.items()}
  wanted = {(step, key): value for (step, key), value in wanted.items() if step != 5}
  assert {step for step, _ in rows} == {4, 6}
  _close(rows, wanted, 2e-3, f"{name}, rows")
  assert rows[END, "val/miou"] == pytest.approx(expected["miou"])


def test_a_published_network_is_predicted_with_and_exported():
  name = _unpack("published_resnet18")
  _check_labels(name)
  export.export(name, "back.npz", network="1", checked=False)
  found = {key: _sums(x) for key, x in read_state_dict("back.npz").items()}
  expected = EXPECTED[name]["export_1_step_3"]
  assert found.keys() == expected.keys()
  _close(found, expected, 1e-12, name)


def test_a_new_run_begins_from_an_old_one():
  old, config = _unpack("cutmix_seg"), _config("cutmix_seg")
  run = train.build(config)
  state = experiment.initial_state(config, run.method, run.optimizer)
  begun = initial_weights.start_from(old, run.method, state)
  saved = Checkpoints(old, read_only=True)
  there = saved.restore(state)
  saved.close()
  assert int(begun.step) == 0 and int(there.step) == AT
  # The evaluated networks of that run are those that learn now; the teacher is their copy.
  (evaluated,) = experiment.evaluated(config, run.method)
  assert evaluated == "teacher"
  for stack in ("networks", "teacher"):
    for here, old in ((begun.params, there.params), (begun.stats, there.stats)):
      trees = here[stack], old[evaluated]
      for a, b in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_array_equal(a, b)
