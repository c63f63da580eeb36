"""Weights of classes and crops around rare ones, from the config to what a step gets."""

import dataclasses

import jax
import numpy as np
import pytest

from semiseg_jax import train
from semiseg_jax.config import rules
from semiseg_jax.data.augment.rare import Rare
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import result_files
from semiseg_jax.labels import IGNORE
from semiseg_jax.training import class_counts, run
from tests import small_city, small_network

CLASSES, KEY = small_city.CLASSES, jax.random.key(0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("data") / "city"
  small_city.write(root)
  return root


def config(root, **changes):
  return small_city.config(root, "ratio=1_4,method=supervised", **changes)


def labels(root):
  dataset = Dataset.open(root)
  ids = dataset.info.lists["labeled_1_4"]
  return dataset, ids, [dataset.read(dataset.index(id_)).label for id_ in ids]


def test_pixels_are_counted_picture_by_picture(root):
  dataset, ids, shown = labels(root)
  expected = [[(label == c).sum() for c in range(3)] for label in shown]
  np.testing.assert_array_equal(class_counts.count(dataset, ids, 3), expected)


def test_a_rule_reads_the_labeled_pictures_and_reaches_the_step(root):
  built = run.build(config(root, method__class_weighting="enet"))
  _, _, shown = labels(root)
  share = [np.mean([(label == c).mean() for label in shown]) for c in range(3)]
  np.testing.assert_allclose(built.method.class_weights, 1 / np.log(1.02 + np.array(share)))
  assert run.build(config(root)).method.class_weights == ()


def test_given_weights_are_one_per_class(root):
  given = {"method__class_weighting": "given"}
  built = run.build(config(root, **given, method__class_weight_list=(1.0, 2.0, 0.5)))
  assert built.method.class_weights == (1.0, 2.0, 0.5)
  with pytest.raises(ConfigError, match="class_weight_list.*3 numbers, one for each of ground"):
    run.build(config(root, **given, method__class_weight_list=(1.0, 2.0)))


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"method__class_weighting": "given"}, "one number per class"),
    ({"method__class_weight_list": (1.0, 2.0, 3.0)}, "class_weighting='equal' does not read it"),
    (
      {"method__supervised_loss": "dice", "method__class_weighting": "inverse"},
      "supervised_loss='dice' does not read it",
    ),
    ({"method__focal_gamma": 1.0}, "supervised_loss='ce' does not read it"),
    ({"data__rare_classes": ("disc",)}, "data.rare_crop=0 lays no crop"),
  ],
)
def test_keys_that_nobody_reads_are_refused(root, changes, said):
  with pytest.raises(ConfigError, match=said):
    rules.validate(config(root, **changes))


def test_a_loss_of_the_methods_own_takes_no_weights():
  c = small_city.config("data", "ratio=1_4,method=supervised")
  c.method.class_weighting, c.method.supervised.class_weights = "inverse", (1.0, 1.0, 1.0, 1.0)
  method = small_network.method(c)
  params, stats = small_network.variables(method)
  with pytest.raises(ConfigError, match="class_weighting='inverse'.*takes no weights"):
    method.loss(
      params, stats, {}, small_network.batch(["labeled"]), jax.random.key(0), 0, frozenset()
    )


def test_a_class_that_alone_has_a_weight_is_all_that_is_learned():
  c = small_city.config("data", "ratio=1_4,method=supervised")
  method = small_network.method(c)
  params, stats = small_network.variables(method)
  batch = small_network.batch(["labeled"])
  label = batch["labeled"]["label"]

  def loss(weights, label):
    weighted = dataclasses.replace(method, class_weights=weights)
    shown = {"labeled": batch["labeled"] | {"label": label}}
    run = lambda shown: weighted.loss(params, stats, {}, shown, KEY, 0, frozenset())[0]
    return float(jax.jit(run)(shown))

  alone = loss((), np.where(label == 2, label, IGNORE).astype(np.uint8))
  np.testing.assert_allclose(loss((0.0, 0.0, 0.3, 0.0), label), alone, rtol=1e-5)


def test_only_labeled_crops_are_laid_around_rare_classes(root):
  c = small_city.config(root, data__rare_crop=0.5, data__rare_classes=("box", "disc"))
  built = run.build(c)
  specs = {spec.name: spec.augment.keywords["rules"].rare for spec in run._stream_specs(built)}
  assert specs.pop("labeled") == Rare(0.5, (2, 1)) and not any(specs.values()) and specs
  c.data.rare_classes = ("disk",)
  with pytest.raises(ConfigError, match="disk: no such class; there are: ground, disc, box"):
    rules.check_dataset(c, built.dataset)


@pytest.mark.slow
def test_a_run_learns_with_all_of_it(root, tmp_path):
  c = config(
    root,
    method__supervised_loss="ce+dice",
    method__class_weighting="median_frequency",
    data__rare_crop=0.5,
    data__rare_classes=("disc",),
  )
  train.train(c, str(tmp_path / "run"))
  [result] = (tmp_path / "run" / "evaluations").glob("*.json")
  fields = result_files.read(result)
  assert set(fields["f1"]) == set(fields["precision"]) == set(CLASSES)
  assert fields["protocol"]["whole"] == "padded"
