"""The keys of the augmentation: wrong values, unread ones, and each family's own."""

import dataclasses

import pytest

from configs import augmentations, cps_toy
from semiseg_jax.config.rules import check_dataset, validate
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from tests import small_city

# key, value, what the family must be for it to be read
WRONG = [
  ("data.augment", "none", {}),
  ("data.scales", (0.5, 1.0, 2.0), {"data.augment": "unimatch"}),
  ("data.scales", (2.0, 0.5), {"data.augment": "contrastiveseg"}),
  ("data.scales", (0.0, 0.5), {"data.augment": "cac"}),
  ("data.pair_scales", (2.0, 0.8), {"data.augment": "cac", "data.scales": (0.5, 2.0)}),
  ("data.base_size", -1, {"data.augment": "cac", "data.scales": (0.5, 2.0)}),
  ("data.padding", "white", {}),
  ("data.labeled_photometry", "strong", {}),
  ("data.unlabeled_photometry", "blur", {}),
]
STRONG = [
  ("order", ("jitter", "sharpen"), "any of 'jitter', 'gray', 'blur'"),
  ("jitter", (0.5, 0.5, 0.5), "4 numbers"),
  ("jitter", (0.5, 0.5, 0.5, 0.6), "of hue, at most 0.5"),
  ("jitter", (-0.1, 0.5, 0.5, 0.1), "each 0 or more"),
  ("jitter_rule", "opencv", "one of 'pillow', 'tensorflow'"),
  ("jitter_p", 1.1, "at most 1"),
  ("gray_p", -0.1, "0 or more"),
  ("blur_p", 2.0, "at most 1"),
  ("blur_sigma", (0.0, 2.0), "each above 0"),
  ("blur_sigma", (2.0, 0.1), "the first not above the second"),
  ("blur_taps", 7, "one of 0, 3, 5"),
]
UNREAD = [
  ({"data.strong.blur_p": 0.1}, "method.name='cps'"),
  ({"data.strong.order": ("blur",)}, "method.name='cps'"),
  ({"data.strong.jitter": (0.1, 0.1, 0.1, 0.1)}, "method.name='cps'"),
  ({"data.base_size": 400}, "data.augment='cps'"),
  ({"data.pair_scales": (0.5, 2.0)}, "data.augment='cps'"),
  ({"data.augment": "paddleseg", "data.compat": ("crop_offset",)}, "data.augment='paddleseg'"),
]


def _config(changes, arg=None):
  c = cps_toy.get_config(arg)
  with c.ignore_type():
    c.update_from_flattened_dict(changes)
  return c


@pytest.mark.parametrize("key, value, others", WRONG)
def test_one_wrong_value_is_one_line_with_its_key(key, value, others):
  with pytest.raises(ConfigError) as error:
    validate(_config(others | {key: value}))
  _, line = str(error.value).splitlines()
  assert key in line and str(value) in line


@pytest.mark.parametrize("key, value, words", STRONG)
def test_wrong_values_of_the_strong_view(key, value, words):
  with pytest.raises(ConfigError) as error:
    validate(_config({f"data.strong.{key}": value}))
  assert f"{key}" in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("changes, choice", UNREAD)
def test_a_changed_key_that_nobody_reads_is_refused(changes, choice):
  with pytest.raises(ConfigError) as error:
    validate(_config(changes))
  _, line = str(error.value).splitlines()
  assert list(changes)[-1] in line and choice in line and "does not read" in line


@pytest.mark.parametrize(
  "choose",
  [
    augmentations.unimatch,
    lambda c: augmentations.unimatch(c, base_size=2048),
    lambda c: augmentations.cac(c, base_size=400),
    lambda c: augmentations.advsemiseg(c, published=True),
    lambda c: augmentations.advsemiseg(c, published=False),
    augmentations.contrastiveseg,
    augmentations.paddleseg,
    augmentations.pseudoseg,
  ],
)
def test_the_presets_are_right_also_for_a_baseline(choose):
  for arg in ("method=cps", "method=supervised"):
    config = _config({}, arg)
    choose(config)
    validate(config)


def test_jitter_of_labeled_pictures_reads_the_strengths():
  strengths = {"data.labeled_photometry": "jitter", "data.strong.jitter": (0.4, 0.4, 0.4, 0.1)}
  validate(_config(strengths))


def test_colors_need_three_channels(tmp_path):
  small_city.write(tmp_path / "data", pictures=4, val=1)
  dataset = Dataset.open(tmp_path / "data")

  class Infrared:
    info = dataclasses.replace(dataset.info, channels=4)

  config = small_city.config(tmp_path / "data")
  config.data.mean = config.data.std = (0.5,) * 4
  check_dataset(config, Infrared())
  config.data.labeled_photometry = "brightness"
  check_dataset(config, Infrared())
  config.data.unlabeled_photometry = "distortion"
  with pytest.raises(ConfigError, match="small_city has pictures of 4 channels.*distortion"):
    check_dataset(config, Infrared())
