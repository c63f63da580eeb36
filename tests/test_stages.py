"""A method in two stages: killed anywhere, the same command ends with the same bits."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import evaluate, main, predict, seals, train
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import Targets
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import inference
from semiseg_jax.training import initial_weights
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city, staged_runs
from tests.kill_runs import compare
from tests.staged_runs import STEPS, saved_steps

pytestmark = pytest.mark.slow
ARGUMENT = "ratio=1_4,method=self_training"
TEACHER, STUDENT = "1_teacher", "2_student"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
  """The work directory of a run that nobody disturbed."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  status, said = _run(root, workdir)
  assert status == 0, said
  return workdir


def test_the_page_of_the_run_shows_all_stages(whole):
  page = (whole / "report.html").read_text()
  assert "<h1>whole, 2 stages</h1>" in page
  assert f"<b>{TEACHER}</b>" in page and f"<b>{STUDENT}</b>" in page
  assert not (whole / STUDENT / "report.html").exists()


def _run(root, workdir, **killed):
  return staged_runs.run(root, workdir, ARGUMENT, **killed)


def _config(root, **changes):
  return staged_runs.config(root, ARGUMENT, **changes)


def test_killed_in_every_stage_and_between_it_ends_with_the_same_bits(root, whole, tmp_path):
  broken = tmp_path / "broken"
  status, said = _run(root, broken, stage=TEACHER)
  assert status == 9, said
  assert saved_steps(broken / TEACHER) == [2] and not (broken / "targets").exists()

  status, said = _run(root, broken, labels=5)
  assert status == 9 and "goes on after step 2" in said, said
  assert saved_steps(broken / TEACHER) == [2, STEPS]
  assert not (broken / "targets").exists() and not (broken / STUDENT).exists()
  assert list(broken.glob(".targets.partial*")), "it was not killed while it wrote"
  rows = (broken / TEACHER / "metrics.jsonl").read_bytes()

  status, said = _run(root, broken, stage=STUDENT)
  assert status == 9, said
  assert saved_steps(broken / STUDENT) == [2]
  labels = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (broken / "targets").iterdir()}

  status, said = _run(root, broken)
  assert status == 0, said
  assert (broken / TEACHER / "metrics.jsonl").read_bytes() == rows, "a whole stage ran again"
  again = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (broken / "targets").iterdir()}
  assert again == labels, "whole labels were written again"
  assert not list(broken.glob(".targets.partial*"))

  for stage in (TEACHER, STUDENT):
    assert compare(whole / stage, broken / stage, STEPS) == []
  infos = [Targets.open(folder / "targets").info for folder in (whole, broken)]
  assert infos[0].fingerprint == infos[1].fingerprint
  assert len(infos[0].ids) == 16  # data.unlabeled='all' holds for the labels, too


def test_the_student_learned_and_says_of_what(whole):
  rows = [json.loads(x) for x in (whole / STUDENT / "metrics.jsonl").read_text().splitlines()]
  assert any("train/pseudo_supervised" in row for row in rows)
  reader = Checkpoints(whole / STUDENT, read_only=True)
  meta = reader.meta(STEPS)
  reader.close()
  info = Targets.open(whole / "targets").info
  assert meta["targets"]["fingerprint"] == info.fingerprint
  assert info.about["step"] == STEPS and TEACHER in info.about["run"]


def test_the_last_stage_is_evaluated_and_predicted_with(root, whole, tmp_path):
  copy = shutil.copytree(whole, tmp_path / "copy")
  found = evaluate.evaluate(str(copy))
  assert found["config"]["method"]["name"] == "self_training"
  assert found["checkpoint_step"] == STEPS
  assert found["confusion"] == evaluate.evaluate(str(copy / STUDENT))["confusion"]
  image = Dataset.open(root).read(0).image
  labels = [predict.load_predictor(str(copy / part))(image) for part in ("", STUDENT)]
  np.testing.assert_array_equal(*labels)
  trees = [jax.tree.leaves(inference.load_trained(copy / p).params) for p in ("", STUDENT, TEACHER)]
  assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(*trees[:2], strict=True))
  assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(*trees[1:], strict=True))


def test_another_run_begins_from_the_last_stage(root, whole):
  run = train.build(_config(root, data__targets=str(whole / "targets")))
  state = train.experiment.initial_state(run.config, run.method, run.optimizer)
  begun = initial_weights.start_from(str(whole), run.method, state)
  expected = inference.load_trained(whole / STUDENT).params
  for a, b in zip(*map(jax.tree.leaves, (begun.params, expected)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  "key, value, stage",
  [("optimizer.learning_rate", 0.5, TEACHER), ("method.self_training.threshold", 0.5, STUDENT)],
)
def test_a_changed_key_is_refused_in_the_first_stage_that_reads_it(root, whole, key, value, stage):
  with pytest.raises(ConfigError) as error:
    train.train(_config(root, **{key: value}), str(whole))
  first, changed, *_ = str(error.value).splitlines()
  assert first == f"{whole / stage} holds another run:"
  assert changed.strip().startswith(f"{key}: ") and changed.endswith(f"then, {value} now")


def test_given_labels_train_the_student_alone(root, whole, tmp_path):
  train.train(_config(root, data__targets=str(whole / "targets")), str(tmp_path))
  assert not (tmp_path / "stages.json").exists() and not (tmp_path / TEACHER).exists()
  assert saved_steps(tmp_path) == [2, STEPS]
  trees = [inference.load_trained(place).params for place in (tmp_path, whole)]
  for a, b in zip(*map(jax.tree.leaves, trees), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_dry_run_is_of_the_first_stage(root, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(main, "_DRY_RUN", types.SimpleNamespace(value=True))
  main._run(_config(root), str(tmp_path))
  said = capsys.readouterr().out
  assert f"{TEACHER}: method supervised" in said and "Nothing was trained." in said
  assert [p.name for p in tmp_path.iterdir()] == ["first_batch.png"]


def test_labels_that_changed_are_another_run(root, whole, tmp_path):
  copy = shutil.copytree(whole, tmp_path / "copy")
  metadata = copy / "targets" / "targets.json"
  saved = json.loads(metadata.read_text())
  metadata.write_text(json.dumps(seals.sealed({**saved, "fingerprint": "0" * 64})))
  with pytest.raises(ConfigError, match="data.targets: the stored targets are others now"):
    train.train(_config(root), str(copy))


def test_labels_that_do_not_fit_are_one_error_before_anything_is_written(root, whole, tmp_path):
  def refused(said, **changes):
    with pytest.raises(DataError, match=said):
      train.train(_config(root, **changes), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()

  labels = str(whole / "targets")
  refused("nowhere does not exist", data__targets=str(tmp_path / "nowhere"))
  refused("lack 3 of 3 pictures", data__targets=labels, data__unlabeled="val", data__val="")
  small_city.write(tmp_path / "other", seed=1)
  refused("made for another dataset", data__targets=labels, data__root=str(tmp_path / "other"))


def test_a_method_that_reads_no_labels_is_given_none(root, whole):
  config = cps_toy.get_config("ratio=1_4,method=cps")
  config.data.targets = str(whole / "targets")
  with pytest.raises(ConfigError, match="data.targets=.*method.name='cps' does not read it"):
    train.train(config, "unused")


def test_a_folder_holds_one_form_of_run(root, whole, tmp_path):
  plain = small_city.config(root, "ratio=1_4,method=supervised", data__val="", train__steps=1)
  with pytest.raises(ConfigError, match="holds a run in stages"):
    train.train(plain, str(whole))
  train.train(plain, str(tmp_path / "plain"))
  with pytest.raises(ConfigError, match="holds a run of one stage"):
    train.train(small_city.config(root, ARGUMENT), str(tmp_path / "plain"))


def test_labels_that_were_made_in_another_way_are_not_learned_from(root, whole, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(whole, run)
  shutil.rmtree(run / STUDENT)
  labeling = {"scales": (0.5, 1.0), "flip": True}
  changes = {f"method.self_training.{key}": value for key, value in labeling.items()}
  changes["method.compat"] = ("best_on_validation",)
  with pytest.raises(DataError, match="targets holds labels.*another way:") as error:
    train.train(_config(root, **changes), str(run))
  changed = [line.partition(":")[0].strip() for line in str(error.value).splitlines()[1:-1]]
  assert sorted(changed) == ["checkpoint", "flip", "scales"] and not (run / STUDENT).exists()
  with pytest.raises(DataError, match="eval.mode: 'whole' then, 'slide' now"):
    train.train(_config(root, **{"eval.mode": "slide", "eval.window": (32, 32)}), str(run))
