"""The loop from shards to checkpoints, in small."""

import json
import logging
import pathlib
import platform
import subprocess

import jax
import numpy as np
import pytest

import semiseg_jax
from semiseg_jax import sharding, train
from semiseg_jax.errors import ConfigError, DataError, EvaluationError, NonFiniteError
from semiseg_jax.evaluation import inference
from semiseg_jax.training import experiment, train_step
from semiseg_jax.workdir import checkpoints
from tests import small_city

pytestmark = pytest.mark.slow
REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


@pytest.fixture(scope="module")
def finished(result):
  """A finished run of four steps: its workdir."""
  return pathlib.Path(result.workdir)


@pytest.fixture(scope="module")
def result(root, tmp_path_factory):
  """What a call from Python gives of it."""
  return semiseg_jax.train(small_city.config(root), tmp_path_factory.mktemp("run"))


def _rows(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_metrics_pictures_checkpoints(finished):
  merged = {}
  for row in _rows(finished):
    merged |= row
  for key in (
    "loss",
    "supervised_0",
    "supervised_1",
    "cps",
    "cps_weighted",
    "learning_rate",
    "pseudo/kept",
    "pseudo/agreement",
    "pseudo/accuracy_0",
    "pseudo/accuracy_1",
    "pseudo/histogram/box",
  ):
    assert np.isfinite(merged[f"train/{key}"]), key
  assert 0 <= merged["val/miou"] <= 1 and merged["speed/images_per_s"] > 0
  histogram = [merged[f"train/pseudo/histogram/{c}"] for c in small_city.CLASSES]
  np.testing.assert_allclose(sum(histogram), 1, rtol=1e-5)
  assert len(list((finished / "evaluations").glob("val_step_4_*.json"))) == 1
  assert len(list((finished / "evaluations").glob("val_step_4_*.png"))) == 1
  assert len(list((finished / "evaluations").glob("*.pictures.zip"))) == 1
  assert "of its labeled pixels are right" in (finished / "report.html").read_text()
  assert json.loads((finished / "config.json").read_text())["name"] == "cps_cutmix_toy_1_4"
  assert checkpoints.Checkpoints(finished, read_only=True).steps() == [2, 4]


def test_a_call_from_python_gives_the_scores(result, finished):
  assert result.step == 4 and result.complete
  last = [row for row in _rows(finished) if "val/miou" in row][-1]
  assert last["step"] == 4 and result.scores["miou"] == last["val/miou"]
  assert list(result.scores["iou"]) == list(small_city.CLASSES)


def _git(*command):
  ended = subprocess.run(["git", *command], cwd=REPOSITORY, capture_output=True, text=True)
  return ended.stdout.strip() if ended.returncode == 0 else None


def test_checkpoints_and_results_name_the_program_that_made_them(finished):
  reader = checkpoints.Checkpoints(finished, read_only=True)
  found = [reader.meta(step)["versions"] for step in (2, 4)]
  reader.close()
  (result,) = (finished / "evaluations").glob("val_step_4_*.json")
  found.append(json.loads(result.read_text())["provenance"]["versions"])
  for versions in found:
    assert versions["semiseg_jax"] == semiseg_jax.__version__
    assert versions["commit"] == _git("rev-parse", "HEAD")
    if versions["commit"]:
      edited = _git("status", "--porcelain", "--", "semiseg_jax", "configs", "data_prep")
      assert versions["changed"] is bool(edited)
    assert versions["jax"] == jax.__version__ and versions["python"] == platform.python_version()


def test_the_networks_differ_and_have_moved(finished):
  early, late = (inference.load_trained(finished, step) for step in (2, 4))
  before, after = jax.tree.leaves(early.params), jax.tree.leaves(late.params)
  assert all((np.asarray(a) != np.asarray(b)).any() for a, b in zip(before, after))
  kernels = [x for x in after if x.ndim == 5]
  assert all((np.asarray(x[0]) != np.asarray(x[1])).any() for x in kernels)
  assert late.dataset["splits"]["labeled"]["ids"] == 4
  assert late.dataset["splits"]["unlabeled"]["ids"] == 12


def test_supervised_reads_no_unlabeled_stream(root, tmp_path):
  train.train(small_city.config(root, "ratio=1_4,method=supervised"), str(tmp_path))
  merged = {}
  for row in _rows(tmp_path):
    merged |= row
  assert "train/supervised_0" in merged and "train/cps" not in merged


def test_three_networks(root, tmp_path):
  config = small_city.config(root, "ratio=1_4,method=cps", method__networks=3, train__steps=2)
  config.data.val = ""
  train.train(config, str(tmp_path))
  assert inference.load_trained(tmp_path).n == 3


def _two_phases(root, **changes):
  """The contrast takes part from step 2 on."""
  return small_city.config(
    root,
    "ratio=1_4,method=pixel_contrast",
    method__pixel_contrast__warmup_steps=2,
    train__log_every=1,
    data__val="",
    **changes,
  )


def test_rows_of_a_second_phase_have_their_own_names(root, tmp_path):
  train.train(_two_phases(root), str(tmp_path))
  rows = {row["step"]: row for row in _rows(tmp_path) if "train/loss" in row}
  assert "train/contrast" not in rows[1] and "train/contrast" in rows[4]
  for row in rows.values():
    total = row["train/supervised_0"] + 0.1 * row.get("train/contrast", 0)
    np.testing.assert_allclose(row["train/loss"], total, rtol=1e-5)
    assert row["train/finite"] == 1


@pytest.mark.parametrize("phases", [1, 2])
def test_not_finite_stops_and_keeps_the_last_good_checkpoint(root, tmp_path, monkeypatch, phases):
  make = train_step.make_train_step

  def poisoned(*args):
    step = make(*args)

    def run(state, batch, phase):
      state, measured = step(state, batch, phase)
      bad = state.step > 3  # the fourth update and all after it
      total, one = measured["finite"]
      return state, {**measured, "finite": (total * (1 - bad), one)}

    return run

  monkeypatch.setattr(train_step, "make_train_step", poisoned)
  with pytest.raises(NonFiniteError, match="Step 3 (.|\n)*Pictures of its batch: .*train_"):
    one = small_city.config(root, "ratio=1_4,method=supervised", train__steps=9)
    train.train(one if phases == 1 else _two_phases(root, train__steps=9), str(tmp_path))
  assert checkpoints.Checkpoints(tmp_path, read_only=True).steps() == [2]


def test_a_step_that_is_not_finite_leaves_the_state_as_it_was(root):
  config = small_city.config(root, "ratio=1_4,method=supervised", optimizer__learning_rate=1e30)
  mesh = sharding.make_mesh()
  method = experiment.make_method(config, mesh, classes=3, channels=3)
  optimizer = experiment.make_optimizer(config, method)
  state = experiment.initial_state(config, method, optimizer)
  step = jax.jit(train_step.make_train_step(method, optimizer, 0, 1), static_argnums=2)
  rng = np.random.default_rng(0)
  batch = {
    s.name: {
      "image": rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
      "label": rng.integers(0, 3, (2, 32, 32), dtype=np.uint8),
      "valid": np.array([[0, 0, 32, 32]] * 2, np.int32),
      "index": np.arange(2, dtype=np.int32),
    }
    for s in method.streams
  }
  for _ in range(4):
    before, (state, measured) = state, step(state, batch, frozenset())
    if not measured["finite"][0]:
      break
  assert not measured["finite"][0]
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state)):
    np.testing.assert_array_equal(a, b)


def test_too_small_a_batch_is_said_with_its_keys(root, tmp_path):
  config = small_city.config(root, "ratio=1_4,method=supervised", train__batch_labeled=1)
  config.model.head = "deeplabv3plus"  # which pools its map to one number
  with pytest.raises(ConfigError, match="no variance; use a larger train.batch_labeled"):
    train.train(config, str(tmp_path))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # that is the cause
def test_a_state_that_overflows_is_never_saved(root, tmp_path):
  """The first loss and its gradients are finite, what they are multiplied with is not."""
  config = small_city.config(
    root, "ratio=1_4,method=supervised", optimizer__learning_rate=1e39, checkpoint__every=1
  )
  with pytest.raises(NonFiniteError, match="After step 1 the state"):
    train.train(config, str(tmp_path))
  assert checkpoints.Checkpoints(tmp_path, read_only=True).steps() == []


def test_another_recipe_in_the_same_workdir_is_refused(finished, root):
  other = small_city.config(root, optimizer__learning_rate=0.5, eval__batch=1)
  with pytest.raises(ConfigError) as error:
    train.train(other, str(finished))
  assert "optimizer.learning_rate: 0.1 then, 0.5 now" in str(error.value)
  assert "eval.batch" not in str(error.value)


def test_init_from_another_number_of_classes(finished, tmp_path, caplog):
  small_city.write(
    tmp_path / "data", classes=(*small_city.CLASSES, "pole"), colors=(*small_city.COLORS, (1, 2, 3))
  )
  config = small_city.config(tmp_path / "data", "ratio=1_4,method=supervised", data__val="")
  config.init_from, config.train.steps, config.optimizer.learning_rate = str(finished), 1, 0.0
  with caplog.at_level(logging.WARNING):
    train.train(config, str(tmp_path / "run"))
  assert "kept fresh" in caplog.text and "classifier" in caplog.text
  old, new = inference.load_trained(finished), inference.load_trained(tmp_path / "run")
  old, new = old.params["networks"], new.params["networks"]
  for a, b in zip(jax.tree.leaves(old["encoder"]), jax.tree.leaves(new["encoder"])):
    np.testing.assert_array_equal(a[:1], b)
  assert new["decoder"]["classifier"]["kernel"].shape == (1, 1, 1, 48, 4)


def test_a_wrong_config_is_refused_before_anything_is_built(root, tmp_path):
  config = small_city.config(root, train__steps=0, eval__mode="halves")
  with pytest.raises(ConfigError) as error:
    train.train(config, str(tmp_path / "run"))
  assert "train.steps=0" in str(error.value) and "eval.mode='halves'" in str(error.value)
  assert not (tmp_path / "run").exists()
  with pytest.raises(ConfigError, match="3 channels"):
    train.train(small_city.config(root, data__mean=(0.5,), data__std=(0.5,)), str(tmp_path / "run"))


def test_no_validation_list_means_no_evaluation(root, tmp_path):
  train.train(small_city.config(root, data__val=""), str(tmp_path))
  assert not any("val/miou" in row for row in _rows(tmp_path))


def test_an_evaluation_that_fails_costs_no_step(root, tmp_path, monkeypatch, capsys):
  real = train.validation.make_evaluate

  def failing(*arguments):
    def evaluate(state, step, again=False):
      raise DataError("record 3 is damaged")

    return evaluate

  config = small_city.config(
    root, "ratio=1_4,method=supervised", eval__every=1, checkpoint__every=0
  )
  config.train.steps = 2
  monkeypatch.setattr(train.validation, "make_evaluate", failing)
  with pytest.raises(EvaluationError, match="step 2 is trained and saved.*record 3 is damaged"):
    train.train(config, str(tmp_path))
  reader = checkpoints.Checkpoints(tmp_path, read_only=True)
  assert reader.steps() == [1, 2] and reader.best_step() is None
  reader.close()
  monkeypatch.setattr(train.validation, "make_evaluate", real)
  train.train(config, str(tmp_path))
  assert "complete already, evaluated again" in capsys.readouterr().out
  assert len(list((tmp_path / "evaluations").glob("val_step_2_*.json"))) == 1
