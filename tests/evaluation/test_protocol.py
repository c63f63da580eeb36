import dataclasses

import pytest
from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import protocol

ONE_VIEW = {"scales": (1.0,), "flip": False}
LATER = {"border": "shifted", "summed": "", "multiple": 0}
AS_IT_IS = {**ONE_VIEW, **LATER, "whole": "as_is"}


def config(**changes):
  fields = dict(mode="slide", window=(800, 512), stride=(0, 0), batch=6, network="0", stack="")
  fields |= {"whole": "padded", "border": "shifted", "summed": "", "multiple": 0, **ONE_VIEW}
  return ConfigDict({**fields, **changes})


def test_slide_takes_the_config_and_two_thirds():
  how = protocol.from_config(config())
  assert dataclasses.asdict(how) == dict(
    mode="slide", window=(800, 512), stride=(534, 342), batch=6, network="0", stack="", **AS_IT_IS
  )
  assert how.name == "network_0_slide_800x512_stride_534x342"
  assert how.as_dict() == dict(
    mode="slide",
    window=(800, 512),
    stride=(534, 342),
    network="0",
    stack="",
    scales=[1.0],
    flip=False,
  )


def test_a_new_window_gets_its_own_stride():
  how = protocol.from_config(config(stride=(700, 500)), window=(90, 60))
  assert (how.window, how.stride) == ((90, 60), (60, 40))
  assert protocol.from_config(config(stride=(700, 500))).stride == (700, 500)


def test_whole_has_no_windows_unless_asked():
  whole = protocol.from_config(config(mode="whole"), network="mean", batch=1)
  assert dataclasses.asdict(whole) == dict(
    mode="whole",
    window=None,
    stride=None,
    batch=1,
    network="mean",
    stack="",
    whole="padded",
    **ONE_VIEW,
    **LATER,
  )
  assert (whole.name, whole.as_dict()["whole"]) == ("network_mean_whole_padded", "padded")
  assert protocol.from_config(config(mode="whole"), window=(64, 64)).mode == "slide"


def test_whole_pictures_as_published_are_what_they_were_before_there_was_a_choice():
  published = protocol.from_config(config(mode="whole", whole="as_is"))
  assert published.name == "network_0_whole" and "whole" not in published.as_dict()
  assert protocol.from_config(config(), whole="as_is") == published
  assert protocol.from_config(config(mode="whole"), whole="as_is") == published


def test_impossible_protocols():
  with pytest.raises(ConfigError, match="no window"):
    protocol.from_config(config(), mode="whole", window=(64, 64))
  with pytest.raises(ConfigError, match="windows of one size"):
    protocol.from_config(config(), window=(64, 64), whole="padded")
  with pytest.raises(ConfigError, match="'wide'"):
    protocol.from_config(config(), whole="wide")
  with pytest.raises(ConfigError, match="'tiles'"):
    protocol.from_config(config(mode="tiles"))
  with pytest.raises(ConfigError, match="batch 0"):
    protocol.from_config(config(), batch=0)
  with pytest.raises(ConfigError, match="at most 65536"):
    protocol.from_config(config(), batch=10**25)
  with pytest.raises(ConfigError, match="sides of at most 65536"):
    protocol.from_config(config(), window=(64, 10**25))


@pytest.mark.parametrize("devices, batch", [(1, 6), (2, 6), (4, 8), (8, 8)])
def test_batch_is_dealt_out_evenly(devices, batch):
  how = protocol.from_config(config())
  assert how.segmenter(lambda images, valid: None, 3, devices=devices).batch == batch


def test_views_are_said():
  how = protocol.from_config(config(), scales=(0.5, 1.0), flip=True).as_dict()
  assert (how["scales"], how["flip"]) == ([0.5, 1.0], True)


def test_another_stack_is_named():
  teacher = protocol.from_config(config(stack="teacher"))
  assert teacher.as_dict()["stack"] == "teacher"
  assert teacher.name == "teacher_0_slide_800x512_stride_534x342"
