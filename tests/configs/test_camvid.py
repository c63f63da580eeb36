"""The bench on CamVid: what all methods have in common, and what is floor and ceiling."""

import pathlib

import pytest
import yaml

import configs
from configs import camvid, methods
from semiseg_jax.config import rules
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_has_equal_steps_and_labeled_batches(method):
  c = camvid.get_config(f"method={method},steps=600")
  rules.validate(c)
  assert (c.train.steps, c.train.batch_labeled, c.data.crop) == (600, 4, (128, 128))
  assert (c.data.train, c.data.labeled, c.data.val) == ("train_rest", "labeled_1_8", "val")
  assert c.data.unlabeled == "rest"  # held-out pictures are in no list that trains
  assert c.method.get("weight_ramp_steps", 0) <= 600


@pytest.mark.parametrize("method", ["cps", "cps_cutmix"])
def test_cps_learns_from_labels_alone_first(method):
  assert camvid.get_config(f"method={method},steps=600").method.weight_start == 200


@pytest.mark.parametrize("method", ["supervised", "unimatch", "pixel_contrast"])
def test_the_ceiling_has_all_labels(method):
  c = camvid.get_config(f"method={method},ratio=full")
  rules.validate(c)
  unlabeled = {"all"} if "unlabeled" in contract.sources(c) else {"rest"}
  assert c.data.labeled == c.data.train and {c.data.unlabeled} == unlabeled


def test_the_normalization_is_that_of_the_weights():
  lite, mobile = (
    camvid.get_config(f"backbone={b}") for b in ("efficientnet_lite0", "mobilenet_v2")
  )
  rules.validate(lite)
  assert lite.data.mean[0] == pytest.approx(127 / 255) and mobile.data.mean[0] == 0.485


@pytest.mark.parametrize("steps", ["0", "many", "-5"])
def test_steps_that_are_none(steps):
  with pytest.raises(ConfigError, match="a number of steps"):
    camvid.get_config(f"steps={steps}")


def test_the_sweep_has_every_method_and_the_ceiling_with_three_seeds():
  file = pathlib.Path(configs.__file__).with_name("camvid_sweep.yaml")
  sweep = yaml.safe_load(file.read_text())
  path, argument = "configs/camvid.py:", lambda one: one["config"].removeprefix(path)
  assert all(one["config"].startswith(path) for one in sweep["runs"])
  made = {one["name"]: camvid.get_config(argument(one)) for one in sweep["runs"]}
  assert set(made) == {*methods.METHODS, "all_labels"} and len(sweep["defaults"]["seeds"]) == 3
  ceiling = made.pop("all_labels")
  assert ceiling.method.name == "supervised" and ceiling.data.labeled == ceiling.data.train
  assert all(c.name.startswith(f"{name}_camvid") for name, c in made.items())
