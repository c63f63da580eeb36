"""Files whose tensors fit and whose arithmetic does not: told by names, or said."""

import json

import numpy as np
import pytest

from data_prep import pretrained
from data_prep.weights import alike
from data_prep.weights.matching import Match
from data_prep.weights.namings import USUAL
from semiseg_jax.errors import WeightsError
from tests.model_config import model_config


def _notes(backbone, source, naming=USUAL):
  return alike.notes(backbone, [Match({}, "", naming, ())], str(source))


@pytest.mark.parametrize(
  "backbone, name, said",
  [
    (
      "efficientnet_lite0",
      "efficientnet_lite0_ra-37913777.pth",
      "--backbone efficientnet_lite0_timm",
    ),
    (
      "efficientnet_lite0_timm",
      "tf_efficientnet_lite0-0aa007d2.pth",
      "--backbone efficientnet_lite0;",
    ),
    ("efficientnet_lite2", "efficientnet_lite2.pth", "symmetric padding"),
    ("resnet50", "resnetblur50-84f4748f.pth", "resnetblur"),
    ("resnet50", "resnetaa50_a1h-4cf422b3.pth", "resnetaa"),
    ("resnet18", "ResNetBlur18.safetensors", "resnetblur"),
  ],
)
def test_a_name_that_tells_of_another_network_is_refused(backbone, name, said):
  with pytest.raises(WeightsError, match=said) as error:
    _notes(backbone, name)
  assert "rename the file" in str(error.value)


@pytest.mark.parametrize(
  "backbone, name",
  [
    ("efficientnet_lite0", "tf_efficientnet_lite0-0aa007d2.pth"),
    ("efficientnet_lite0_timm", "efficientnet_lite0_ra-37913777.pth"),
    ("resnet50", "resnet50-0676ba61.pth"),
    ("resnet101", "tv_resnet101.safetensors"),
    ("mobilenet_v2", "x.pth"),
    ("resnet50_v1s", "resnet50_v1s.pth"),
  ],
)
def test_a_name_that_tells_of_ours_is_enough(backbone, name):
  assert _notes(backbone, name) == []


@pytest.mark.parametrize(
  "backbone, name",
  [
    ("resnet101", "resnet101_caffe-3ad79236.pth"),
    ("resnet50_v1c", "resnet50_msra-5891d200.pth"),
    ("resnet101", "resnet101COCO-41f33a49.pth"),
  ],
)
def test_where_a_key_makes_it_right_the_key_is_said(backbone, name):
  said = " ".join(_notes(backbone, name))
  assert "--config.model.resnet.caffe_stride=True" in said and "BGR" in said
  assert hasattr(model_config(backbone).resnet, "caffe_stride")


def test_a_name_that_tells_nothing_is_said():
  (said,) = _notes("efficientnet_lite0", "model.safetensors")
  assert said.startswith("NOTE: the tensors cannot tell efficientnet_lite0 from timm's efficient")
  assert "--backbone efficientnet_lite0_timm" in said
  # These names only TensorFlow's weights have.
  assert _notes("efficientnet_lite0", "model.pth", "efficientnet_lite_pytorch's") == []
  assert "resnetblur" in _notes("resnet50", "latest.pth")[0]
  assert "nearest pixel" in _notes("hrnet_w18", "hrnetv2_w18_imagenet_pretrained.pth")[0]


def test_the_architecture_beside_the_file_tells(tmp_path):
  beside = tmp_path / "config.json"
  source = tmp_path / "model.safetensors"
  beside.write_text(json.dumps({"architecture": "efficientnet_lite0"}))
  with pytest.raises(WeightsError, match="efficientnet_lite0 tells of timm's"):
    _notes("efficientnet_lite0", source)
  beside.write_text(json.dumps({"architecture": "tf_efficientnet_lite0"}))
  assert _notes("efficientnet_lite0", source) == []
  for text in ("[]", "{", "{}", '{"architecture": null}'):
    beside.write_text(text)
    assert len(_notes("efficientnet_lite0", source)) == 1


@pytest.mark.parametrize(
  "name", ["register_tokens", "teacher.backbone.register_tokens", "reg_token"]
)
def test_register_tokens_are_named_as_such(name):
  state = {name: np.zeros((1, 4, 384), np.float32)}
  with pytest.raises(WeightsError, match=f"register tokens .{name}.*_reg4.*dinov2_small has none"):
    pretrained.convert(state, "dinov2_small")
  # A DINOv3 has them, and a ResNet is looked for in what lies beside.
  for backbone in ("dinov3_small", "resnet18"):
    with pytest.raises(WeightsError, match="lacks"):
      pretrained.convert(state, backbone)


def test_what_the_tensors_of_a_whole_hrnet_do_not_tell_is_said():
  (said,) = alike.notes_of_whole(model_config("hrnet_w18", "fcn", hrnet={"padding": "same"}))
  assert "model.hrnet.padding=same, model.hrnet.align_corners=True" in said
  assert alike.notes_of_whole(model_config("resnet18")) == []
