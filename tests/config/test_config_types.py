"""Values of kinds that no rule could read are named, and the kinds fit every key there is."""

import math

import pytest

from configs import cps_toy, presets
from semiseg_jax.config.config_types import leaves, wrong_types
from semiseg_jax.config.validate import validate
from semiseg_jax.errors import ConfigError


def test_every_default_is_of_its_kind():
  assert wrong_types(presets.base()) == []


@pytest.mark.parametrize(
  "key", [key for key, value in leaves(presets.base().to_dict()) if isinstance(value, tuple)]
)
@pytest.mark.parametrize("item", [None, (1, 2), True, math.nan])
def test_no_tuple_holds_what_is_no_number_and_no_text(key, item):
  config = presets.base()
  with config.ignore_type():
    config.update_from_flattened_dict({key: (item,)})
  (line,) = wrong_types(config)
  assert line.startswith(f"{key}=({item!r},): ")


@pytest.mark.parametrize(
  "key, value",
  [
    ("data.crop", ("a", "b")),
    ("data.crop", (64.5, 64.0)),
    ("eval.stride", (1.5, 2.5)),
    ("profile_steps", ("1", "2")),
    ("data.scales", ("a",)),
    ("data.compat", (1,)),
    ("method.cutmix_area", ("a", "b")),
    ("optimizer.learning_rate", math.nan),
    ("method.weight", math.inf),
    ("model.deeplabv3plus.aspp_width", -1),
    ("model.deeplabv3plus.aspp_rates", (1, -2)),
    ("model.head", "deeplab"),
    ("method.name", "cpss"),
  ],
)
def test_what_the_rules_cannot_read_is_said_alone(key, value):
  config = cps_toy.get_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ConfigError) as error:
    validate(config)
  first, line = str(error.value).splitlines()
  assert first == "This config cannot run:" and line.startswith(f"  {key}={value!r}")
