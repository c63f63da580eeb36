"""The loop from shards to checkpoints, in small."""

import json
import logging

import jax
import numpy as np
import pytest

from semiseg_jax import checkpoints, inference, train, validate
from tests import small_city


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
  """A finished run of four steps: its workdir."""
  workdir = tmp_path_factory.mktemp("run")
  train.train(small_city.config(root), str(workdir))
  return workdir


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
    "pseudo/histogram/02",
  ):
    assert np.isfinite(merged[f"train/{key}"]), key
  assert 0 <= merged["val/miou"] <= 1 and merged["speed/images_per_s"] > 0
  histogram = [merged[f"train/pseudo/histogram/{c:02d}"] for c in range(3)]
  np.testing.assert_allclose(sum(histogram), 1, rtol=1e-5)
  assert (finished / "pictures" / "val_0000004.png").is_file()
  assert json.loads((finished / "config.json").read_text())["name"] == "cps_cutmix_toy_1_4"
  assert checkpoints.Checkpoints(finished, read_only=True).steps() == [2, 4]


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
  train.train(config, str(tmp_path))
  assert inference.load_trained(tmp_path).n == 3


def test_not_finite_stops_and_keeps_the_last_good_checkpoint(root, tmp_path):
  train.train(small_city.config(root), str(tmp_path))
  good = inference.load_trained(tmp_path, 4).params
  wild = small_city.config(root, train__steps=40, optimizer__learning_rate=1e30)
  with pytest.raises(train.NonFiniteError, match="Record numbers"):
    train.train(wild, str(tmp_path))
  kept = checkpoints.Checkpoints(tmp_path, read_only=True).steps()
  for step in kept:
    leaves = jax.tree.leaves(inference.load_trained(tmp_path, step).params)
    assert all(np.isfinite(x).all() for x in leaves)
  assert 4 in kept
  same = jax.tree.leaves(inference.load_trained(tmp_path, 4).params)
  assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(good), same))


def test_init_from_another_number_of_classes(finished, tmp_path, caplog):
  small_city.write(
    tmp_path / "data", classes=(*small_city.CLASSES, "pole"), colors=(*small_city.COLORS, (1, 2, 3))
  )
  config = small_city.config(tmp_path / "data", init_from=str(finished), train__steps=1)
  config.optimizer.learning_rate = 0.0
  with caplog.at_level(logging.WARNING):
    train.train(config, str(tmp_path / "run"))
  assert "kept fresh" in caplog.text and "classifier" in caplog.text
  old, new = inference.load_trained(finished), inference.load_trained(tmp_path / "run")
  for a, b in zip(jax.tree.leaves(old.params["encoder"]), jax.tree.leaves(new.params["encoder"])):
    np.testing.assert_array_equal(a, b)
  assert new.params["decoder"]["classifier"]["bias"].shape == (2, 4)


def test_a_wrong_config_is_refused_before_anything_is_built(root, tmp_path):
  config = small_city.config(root, train__steps=0, eval__mode="halves")
  with pytest.raises(validate.ConfigError) as error:
    train.train(config, str(tmp_path / "run"))
  assert "train.steps=0" in str(error.value) and "eval.mode='halves'" in str(error.value)
  assert not (tmp_path / "run").exists()
  with pytest.raises(validate.ConfigError, match="3 channels"):
    train.train(small_city.config(root, data__mean=(0.5,), data__std=(0.5,)), str(tmp_path / "run"))


def test_no_validation_list_means_no_evaluation(root, tmp_path):
  train.train(small_city.config(root, data__val="", train__steps=2), str(tmp_path))
  assert not any("val/miou" in row for row in _rows(tmp_path))
