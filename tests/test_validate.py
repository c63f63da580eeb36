"""Every rule of the config check names its key; all that is wrong is said at once."""

import dataclasses

import pytest

from configs import cps_toy
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.validate import ConfigError, check_dataset, validate
from tests import small_city

WRONG = {
  "data.root": "",
  "data.labeled": "",
  "data.crop": (0, 32),
  "data.scales": (),
  "data.flip": 1.5,
  "data.std": (0.2, 0.0, 0.2),
  "data.compat": ("pseudo_label_padding",),
  "train.steps": 0,
  "train.log_every": 0,
  "train.batch_labeled": 0,
  "train.batch_unlabeled": -1,
  "eval.mode": "halves",
  "eval.batch": 0,
  "checkpoint.keep": 0,
  "method.pseudo_label_bn": "running",
  "method.compat": ("crop_offset",),
}
OTHERS = {
  "data.crop": (32,),
  "data.scales": (1.0, 0.0),
  "data.flip": -0.1,
  "data.mean": (0.5,),
  "train.steps": -1,
}


def _config(changes):
  c = cps_toy.get_config()
  with c.ignore_type():
    c.update_from_flattened_dict(changes)
  return c


def test_the_toy_config_is_right():
  validate(cps_toy.get_config())


@pytest.mark.parametrize("key, value", [*WRONG.items(), *OTHERS.items()])
def test_one_wrong_value_is_one_line_with_its_key(key, value):
  with pytest.raises(ConfigError) as error:
    validate(_config({key: value}))
  first, *lines = str(error.value).splitlines()
  assert first == "This config cannot run:" and len(lines) == 1
  assert key in lines[0] and (value in ("", ()) or str(value) in lines[0])


def test_everything_wrong_is_said_at_once():
  with pytest.raises(ConfigError) as error:
    validate(_config(WRONG))
  assert len(str(error.value).splitlines()) == 1 + len(WRONG)
  assert all(key in str(error.value) for key in WRONG)


@pytest.mark.parametrize(
  "key, value", [("data.flip", 0.0), ("data.flip", 1.0), ("method.pseudo_label_bn", "batch")]
)
def test_limits_are_right(key, value):
  validate(_config({key: value}))


def test_channels(tmp_path):
  small_city.write(tmp_path / "data", pictures=4, val=1)
  dataset = Dataset.open(tmp_path / "data")
  config = small_city.config(tmp_path / "data")
  check_dataset(config, dataset)

  class Infrared:
    info = dataclasses.replace(dataset.info, channels=4)

  with pytest.raises(ConfigError, match=r"small_city has pictures of 4 channels(.|\n)*have 3"):
    check_dataset(config, Infrared())
