"""The argument method=supervised of every recipe, and add=pixel_contrast."""

import pytest

from configs import methods, presets
from semiseg_jax.config import rules
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from tests.configs.files import of_file
from tests.configs.test_configs import NAMES

RECIPES = [
  name
  for name in NAMES
  if name.endswith(("_voc", "_city", "_coco", "_ade")) and name != "mlmt_voc"  # a classifier
]
# Recipes whose authors give the baseline as many labeled pictures as both kinds together.
DOUBLE = ("unimatch", "prevmatch", "self_training")


def _ratios(name):
  with pytest.raises(ConfigError) as error:
    of_file(name)("ratio=any")
  return str(error.value).partition("one of ")[2].rstrip(".").split(", ")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_baseline(name):
  """One network, labels alone; everything that is not the method's is that of the recipe."""
  for ratio in _ratios(name):
    recipe, c = (of_file(name)(f"ratio={ratio}{more}") for more in ("", ",method=supervised"))
    rules.validate(c)
    module = contract.find("supervised")
    assert (c.method.name, c.method.add, c.method.compat) == ("supervised", (), ())
    assert [stream.source for stream in module.streams(c)] == ["labeled"]
    assert [(net.name, net.copies) for net in module.nets(c)] == [("networks", 1)]
    assert c.eval.stack == "" and c.name.startswith("supervised")
    recipe.model.projection = c.model.projection
    for block in ("model", "optimizer", "eval"):
      before = recipe[block].to_dict() | ({"stack": ""} if block == "eval" else {})
      assert c[block].to_dict() == before, block
    for key in ("root", "train", "labeled", "crop", "scales", "augment", "flip", "mean", "padding"):
      assert c.data[key] == recipe.data[key], key
    for key in ("supervised_loss", "ohem_threshold", "ohem_kept_fraction", "loss_group"):
      assert c.method[key] == recipe.method[key] or name.startswith("pixel_contrast"), key
    assert c.train.steps == recipe.train.steps
    assert c.train.frozen_statistics == recipe.train.frozen_statistics
    rows = recipe.train.batch_labeled * (2 if name.startswith(DOUBLE) else 1)
    rows = 10 if name.startswith("s4gan") else rows
    assert c.train.batch_labeled == rows


@pytest.mark.parametrize("name", ["mlmt_voc", "mlmt_toy"])
def test_the_baseline_of_a_classifier_is_one(name):
  """Labeled pictures alone, and their average, which is what is scored."""
  recipe, c = of_file(name)(), of_file(name)("method=supervised")
  rules.validate(c)
  assert (c.method.name, c.method.weight) == ("mlmt", 0.0) and c.name == f"supervised_{recipe.name}"
  assert [stream.source for stream in contract.find("mlmt").streams(c)] == ["labeled"]
  for block in ("model", "optimizer", "eval", "train"):
    assert c[block].to_dict() == recipe[block].to_dict(), block
  for key in ("root", "train", "labeled", "crop", "augment"):
    assert c.data[key] == recipe.data[key], key


def test_numbers_of_pictures_of_published_baselines():
  batch = lambda name: of_file(name)("method=supervised").train.batch_labeled
  assert [batch(f"unimatch_v2_{data}") for data in ("voc", "city", "ade", "coco")] == [
    32,
    16,
    16,
    32,
  ]
  assert [batch(name) for name in ("u2pl_voc", "u2pl_city", "unimatch_voc")] == [16, 16, 16]
  assert [batch(name) for name in ("advsemiseg_voc", "cps_voc", "cps_city")] == [10, 8, 8]


def test_what_a_baseline_has_of_its_recipe_beside_the_method():
  weights = of_file("pixel_contrast_city")().method.pixel_contrast.class_weights
  c = of_file("pixel_contrast_city")("method=supervised")
  assert len(weights) == 19 and c.method.supervised.class_weights == weights
  c = of_file("u2pl_city")("method=supervised")
  assert c.model.deeplabv3plus.auxiliary and c.method.supervised.weight_auxiliary == 0.4
  c = of_file("advsemiseg_voc")("method=supervised,published=yes")
  rules.validate(c)
  assert (c.model.deeplabv2.summed, c.data.flip, c.optimizer.learning_rate) == (2, 0, 7.5e-4)


ADDING = [name for name in NAMES if "add=" in (of_file(name).__globals__["__doc__"] or "")]


@pytest.mark.parametrize("name", ADDING)
def test_pixel_contrast_goes_on_top_of_any_method(name):
  """With the pseudo labels of those that have some; the method's own groups stay."""
  choices = {"method=unimatch": "all", "method=supervised": "labeled"}
  if name.startswith("unimatch_v2"):
    choices = {"method=fixmatch_average": "all", "method=supervised": "labeled"}
  for arg, on in choices.items():
    plain, c = (of_file(name)(f"{arg}{more}") for more in ("", ",add=pixel_contrast"))
    rules.validate(c)
    o = c.method.pixel_contrast
    assert c.method.add == ("pixel_contrast",) and c.model.projection.kind == "convmlp"
    assert (o.on, o.group, c.method.loss_group) == (on, 2, plain.method.loss_group)
    assert (o.weight, o.temperature, o.memory, c.name) == (
      0.1,
      0.1,
      0,
      f"{plain.name}_pixel_contrast",
    )
    memory = of_file(name)(f"{arg},add=pixel_contrast_memory")
    rules.validate(memory)
    assert memory.method.pixel_contrast.memory and memory.name not in (c.name, plain.name)


def test_there_are_files_that_add():
  assert {"cps_toy", "toy_study", "cps_voc", "cps_city", "own", "unimatch_voc"} <= set(ADDING)


@pytest.mark.parametrize("method", methods.METHODS)
def test_the_toy_adds_it_to_every_method_or_says_why_not(method):
  c = of_file("cps_toy")(f"method={method},add=pixel_contrast")
  words = {
    **dict.fromkeys(("pixel_contrast", "pixel_contrast_memory"), "a term is added once"),
  }
  if method not in words:
    return rules.validate(c)
  with pytest.raises(ConfigError, match=words[method]):
    rules.validate(c)


def test_the_words_of_the_study_are_arguments():
  for combined in methods.COMBINED:
    method, _, term = combined.partition("+")
    assert method in methods.METHODS and term in presets.ADDED.possible
