"""A fixed teacher: run, never changed, in no checkpoint, known by its numbers."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from semiseg_jax import methods, train
from semiseg_jax.config import rules
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import inference
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city
from tests.methods import distilled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


@pytest.fixture(scope="module")
def teacher(root, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("teacher")
  config = small_city.config(root, "ratio=1_4,method=supervised", data__val="", seed=5)
  train.train(config, str(workdir))
  return workdir


@pytest.fixture(autouse=True)
def _found_by_its_file(tmp_path, monkeypatch):
  folder = tmp_path / "methods"
  folder.mkdir()
  (folder / "distilled.py").write_text(pathlib.Path(distilled.__file__).read_text())
  monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])


def _config(root, teacher, **changes):
  config = small_city.config(root, "ratio=1_4,method=supervised", data__val="")
  from semiseg_jax.config import schema

  whole = schema.default()
  whole.update(config)
  whole.method.name, whole.method.weight = "distilled", 1.0
  whole.method.distilled.teacher = str(teacher)
  whole.update_from_flattened_dict(changes)
  return whole


def test_it_teaches_and_lies_in_no_checkpoint(root, teacher, tmp_path):
  train.train(_config(root, teacher), str(tmp_path / "run"))
  saved = Checkpoints(tmp_path / "run", read_only=True)
  meta = saved.meta(4)
  saved.close()
  assert set(meta["stacks"]) == {"networks"} and set(meta["nets"]) == {"networks"}
  assert meta["fixed"]["teacher"]["source"] == str(teacher)
  items = "".join(str(p) for p in (tmp_path / "run" / "checkpoints").rglob("*"))
  assert "teacher" not in items
  rows = (tmp_path / "run" / "metrics.jsonl").read_text()
  assert "train/distilled" in rows
  before = inference.load_trained(teacher)
  again = inference.load_trained(teacher)
  for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(again.params)):
    np.testing.assert_array_equal(a, b)


def test_a_resumed_run_ends_with_the_same_bits(root, teacher, tmp_path):
  train.train(_config(root, teacher), str(tmp_path / "whole"))
  train.train(_config(root, teacher), str(tmp_path / "half"))
  shutil.rmtree(tmp_path / "half" / "checkpoints" / "4")
  train.train(_config(root, teacher), str(tmp_path / "half"))
  a, b = (inference.load_trained(tmp_path / name) for name in ("whole", "half"))
  for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params)):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_another_teacher_is_another_run(root, teacher, tmp_path, capsys):
  """Of a complete run, and of one that would go on."""
  mine, run = tmp_path / "mine", tmp_path / "run"
  shutil.copytree(teacher, mine)
  train.train(_config(root, mine), str(run))
  capsys.readouterr()
  train.train(_config(root, mine), str(run))
  assert "nothing is computed again" in capsys.readouterr().out
  shutil.rmtree(mine / "checkpoints" / "4")
  for step in ("4", "2"):
    with pytest.raises(ConfigError, match="fixed network 'teacher'(.|\n)*other numbers"):
      train.train(_config(root, mine), str(run))
    shutil.rmtree(run / "checkpoints" / step)


def test_half_precision_is_asked_for(root, teacher, tmp_path):
  config = _config(root, teacher, **{"method.distilled.dtype": "bfloat16"})
  run = train.build(config)
  from semiseg_jax.training import experiment

  state = experiment.initial_state(config, run.method, run.optimizer)
  assert {str(x.dtype) for x in jax.tree.leaves(state.fixed["teacher"])} == {"bfloat16"}
  train.train(config, str(tmp_path / "run"))


def test_a_teacher_of_other_classes_is_refused(teacher, tmp_path):
  small_city.write(
    tmp_path / "four", classes=(*small_city.CLASSES, "pole"), colors=(*small_city.COLORS, (1, 2, 3))
  )
  with pytest.raises(ConfigError, match="3 classes and 3 channels(.|\n)*4 and 3"):
    train.train(_config(tmp_path / "four", teacher), str(tmp_path / "run"))


def test_its_required_key_is_asked_for_only_where_it_is_read(root, teacher):
  config = _config(root, teacher)
  config.method.distilled.teacher = ""
  with pytest.raises(ConfigError, match="method.distilled.teacher is empty"):
    rules.validate(config)
  config.method.name, config.method.weight = "supervised", 1.5
  rules.validate(config)


def test_no_such_teacher_is_one_message(root, tmp_path):
  with pytest.raises(CheckpointError, match="No checkpoints under"):
    train.train(_config(root, tmp_path / "nothing"), str(tmp_path / "run"))
