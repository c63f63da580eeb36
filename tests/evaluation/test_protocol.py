import dataclasses

import pytest
from ml_collections import ConfigDict

from configs import protocols
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import protocol, published

ONE_VIEW = {"scales": (1.0,), "flip": False}
LATER = {"border": "shifted", "summed": "", "multiple": 0, "several_sizes": ""}
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
    whole="as_is",
    border="shifted",
    summed="logits",
    multiple=0,
    several_sizes="",
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
  assert published.name == "network_0_whole" and published.as_dict()["whole"] == "as_is"
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
  with pytest.raises(ConfigError, match="'resize_to_multiple' sees .* has no border; mode 'slide'"):
    protocol.from_config(config(), mode="resize_to_multiple", border="cut")
  with pytest.raises(ConfigError, match="one from 1 to 65536, such as --multiple=8"):
    protocol.from_config(config(), mode="resize_to_multiple")
  with pytest.raises(ConfigError, match="'reflected' have one"):
    protocol.from_config(config(), whole="as_is", multiple=8)
  with pytest.raises(ConfigError, match="the last windows are 'torn'"):
    protocol.from_config(config(), border="torn")
  with pytest.raises(ConfigError, match="summed are 'votes'"):
    protocol.from_config(config(), summed="votes")
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


def test_a_field_without_a_mode_means_the_mode_that_has_it():
  cut = protocol.from_config(config(mode="whole"), border="cut")
  assert (cut.mode, cut.window, cut.border) == ("slide", (800, 512), "cut")
  resized = protocol.from_config(config(), multiple=14)
  assert (resized.mode, resized.window, resized.whole) == ("resize_to_multiple", None, "as_is")
  mirrored = protocol.from_config(config(), whole="reflected", multiple=8)
  assert (mirrored.mode, mirrored.multiple) == ("whole", 8)


@pytest.mark.parametrize(
  "given, name",
  [
    ({"network": "0,2"}, "network_0-2_slide_800x512_stride_534x342"),
    ({"border": "cut"}, "network_0_slide_800x512_stride_534x342_cut"),
    ({"summed": "probabilities"}, "network_0_slide_800x512_stride_534x342_probabilities"),
    ({"mode": "center_crop", "window": (9, 8)}, "network_0_center_crop_9x8"),
    ({"multiple": 14}, "network_0_resize_to_multiple_14"),
    ({"whole": "reflected", "multiple": 8}, "network_0_whole_reflected_8"),
    ({"whole": "as_is", "scales": [0.5, 1], "flip": True}, "network_0_whole_scales_0.5_1_flip"),
  ],
)
def test_what_differs_has_another_name_and_is_told(given, name):
  how, plain = protocol.from_config(config(), **given), protocol.from_config(config())
  assert how.name == name
  told = how.as_dict()
  assert told != plain.as_dict()
  for field, value in given.items():
    assert told.get(field, "as_is") == value


def test_what_is_added_anyway_is_no_difference():
  for network, summed in (("1", "logits"), ("mean", "probabilities"), ("0,1", "probabilities")):
    how = protocol.from_config(config(), network=network, summed=summed)
    assert how == protocol.from_config(config(), network=network) and how.adds == summed


def test_a_published_protocol_says_all_but_the_network():
  strange = config(mode="whole", whole="padded", scales=(0.5,), flip=True, summed="probabilities")
  how = protocol.from_config(strange, protocol="cps_city", network="1")
  assert how == protocol.Protocol("slide", (800, 800), (534, 534), 6, "1")
  how = protocol.from_config(strange, protocol="unimatch_v2_voc")
  assert how == protocol.Protocol("resize_to_multiple", None, None, 6, "0", multiple=14)
  with pytest.raises(ConfigError, match="--protocol=cps_city says .*: leave out --window, --flip"):
    protocol.from_config(config(), protocol="cps_city", window=(512, 512), flip=False)
  with pytest.raises(ConfigError, match="'cps_cty': one of .*Did you mean 'cps_city'"):
    protocol.from_config(config(), protocol="cps_cty")


@pytest.mark.parametrize("name", published.PROTOCOLS)
def test_every_published_protocol_can_be_chosen_by_command_and_config(name):
  chosen = protocol.from_config(config(), protocol=name)
  assert chosen.segmenter(lambda images, valid: None, 3).batch == 6
  assert name in published.listing()
  in_file = schema.default()
  protocols.choose(in_file, name)
  assert [line for line in rules.faults(in_file) if "eval" in line] == []
  assert protocol.from_config(in_file.eval, batch=6) == chosen


def test_nothing_is_labeled_by_the_middle_of_pictures():
  with pytest.raises(ConfigError, match="scores the middle .* choose --mode=whole or --mode=slide"):
    protocol.to_label(config(), mode="center_crop")
  assert protocol.to_label(config()) == protocol.from_config(config())


@pytest.mark.parametrize("wrong", ["0,", "0,0", "0,3", "-1", "mean,0", "²", ""])
def test_several_networks_are_there_and_named_once(wrong):
  assert protocol.networks_of("0,2", 3) == (0, 2) and protocol.networks_of("mean", 2) == (0, 1)
  with pytest.raises(ConfigError, match="0 to 2, or 'mean', or several such as '0,1'"):
    protocol.networks_of(wrong, 3)


def test_pixels_that_a_network_sees():
  slide = protocol.from_config(config(window=(800, 800)))
  assert slide.pixels(1024, 2048) == 8 * 800 * 800
  both = protocol.from_config(config(), whole="as_is", scales=(0.5, 1.0), flip=True)
  assert both.pixels(10, 20) == 2 * 200 + 2 * 50
  assert protocol.from_config(config(), mode="center_crop", window=(8, 8)).pixels(99, 99) == 64


def test_new_pictures_of_several_sizes_are_padded_unless_something_else_is_asked():
  config = schema.default().eval
  config.mode, config.whole = "whole", "as_is"
  padded = lambda **given: protocol.for_new_pictures(config, **given).several_sizes
  assert padded() == padded(mode="whole") == "padded"
  asked = ({"whole": "as_is"}, {"protocol": "self_training_voc"}, {"mode": "slide"})
  for given in (*asked, {"mode": "resize_to_multiple", "multiple": 8}):
    assert padded(**given) == "", given
  assert protocol.for_new_pictures(config).as_dict()["several_sizes"] == "padded"
  assert not protocol.from_config(config).as_dict()["several_sizes"]
  # A folder with masks is seen as it is predicted; its middle can be scored, too.
  folder = protocol.for_scored_folder
  assert folder(config) == protocol.for_new_pictures(config) != folder(config, whole="as_is")
  assert folder(config, mode="center_crop").several_sizes == ""
