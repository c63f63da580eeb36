"""DeepLabv2's two or four branches: set where the source shows it, said where it does not."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_prep.weights import branches
from tests.model_config import model_config

NAME = "module.layer5.conv2d_list.{}.weight"


def _config(summed=0, head="deeplabv2"):
  return ConfigDict({"model": model_config("resnet18", head, deeplabv2={"summed": summed})})


def _state(fresh=()):
  """Four branches, those in `fresh` as they are drawn: normal of 0.01, whose others have grown."""
  rng = np.random.default_rng(0)
  draw = lambda i: rng.normal(0, 0.01 if i in fresh else 0.012, (3, 64, 3, 3))
  return {NAME.format(i): draw(i).astype(np.float32) for i in range(4)}


def test_branches_that_were_never_trained_are_left_out():
  config = _config()
  fitted, (said,) = branches.fitted(config, _state(fresh=(2, 3)), "VOC_30000.pth")
  assert fitted.model.deeplabv2.summed == 2 and config.model.deeplabv2.summed == 0
  assert "never trained" in said and "--config.model.deeplabv2.summed=4" in said


def test_the_published_files_of_advsemiseg_are_known_by_name():
  """They started from four trained branches, so their tensors show nothing."""
  fitted, (said,) = branches.fitted(_config(), _state(), "data/AdvSegVOC0.125-03ab5b88.pth")
  assert fitted.model.deeplabv2.summed == 2 and "returns after two" in said


@pytest.mark.parametrize("fresh", [(), (3,), (0, 1, 2, 3)])
def test_what_is_not_shown_is_said(fresh):
  config = _config()
  fitted, (said,) = branches.fitted(config, _state(fresh), "latest.pth")
  assert fitted is config and "--config.model.deeplabv2.summed=2" in said


@pytest.mark.parametrize("options", [{"summed": 2}, {"summed": 4}, {"head": "pspnet"}])
def test_a_choice_is_left_alone(options):
  config = _config(**options)
  assert branches.fitted(config, _state(fresh=(2, 3)), "AdvSeg.pth") == (config, [])
