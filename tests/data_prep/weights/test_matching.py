"""Networks found in state dicts: prefixes, several networks, namings, and what is refused."""

import re

import numpy as np
import pytest

from data_prep.weights import matching
from data_prep.weights.namings import namings
from semiseg_jax.errors import WeightsError

SHAPES = {"conv.weight": (2, 3, 1, 1), "bn.bias": (2,), "layer.0.weight": (2,), "token": (1, 2)}


def _state(*prefixes, **changes):
  state = {
    prefix + name: np.full(shape, i, np.float32)
    for i, prefix in enumerate(prefixes)
    for name, shape in SHAPES.items()
  }
  return state | changes


def _find(state, **options):
  return matching.find(state, SHAPES, what="small", **options)


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.module.backbone."])
def test_any_prefix_is_found_and_said(prefix):
  state = _state(prefix)
  (match,) = _find(state)
  assert match.names == {name: prefix + name for name in SHAPES}
  assert matching.unused(state, [match]) == []
  assert match.describe() == "names as they are" + (f", under {prefix!r}" if prefix else "")


def test_several_networks_come_in_the_order_of_the_source():
  state = _state("branch2.", "branch1.")
  first, second = _find(state, count=2)
  assert (first.prefix, second.prefix) == ("branch2.", "branch1.")
  chosen = _find(state, count=2, prefixes=["branch1", "branch2."])
  assert [match.prefix for match in chosen] == ["branch1.", "branch2."]


def test_more_networks_than_wanted_are_never_guessed():
  state = _state("model.module.", "model_ema.module.")
  with pytest.raises(WeightsError, match="2 time.*'model.module.', 'model_ema.module.'; 1 want"):
    _find(state)
  (match,) = _find(state, prefixes=["model_ema"])
  assert match.prefix == "model_ema.module."
  unused = matching.unused(state, [match])
  assert unused == sorted(name for name in state if name.startswith("model.module."))


@pytest.mark.parametrize(
  "student, average",
  [("model_state.", "teacher_state."), ("model.", "model_ema."), ("state_dict.", "ema.")],
)
def test_averages_are_named(student, average):
  place = average.removesuffix(".")
  with pytest.raises(WeightsError, match=f"which authors evaluate: --prefix {place}\\.$"):
    _find(_state(student, average))
  with pytest.raises(WeightsError, match="many networks.$"):
    _find(_state("branch1.", "branch2."))


@pytest.mark.parametrize("prefixes", [["mod"], ["model.", "model."]])
def test_a_prefix_must_choose_one_place_for_each_network(prefixes):
  with pytest.raises(WeightsError, match="small is in the source 2 times"):
    _find(_state("model.", "model_ema."), prefixes=prefixes, count=len(prefixes))


def test_a_prefix_that_is_nowhere_names_those_that_are():
  with pytest.raises(WeightsError, match="--prefix nope: no small is there.*: model, model_ema.$"):
    _find(_state("model.", "model_ema."), prefixes=["nope"])


@pytest.mark.parametrize("prefix, place", [("", ""), ("a", "a."), ("a.", "a."), ("a.b", "a.b.")])
def test_a_whole_prefix_chooses_before_a_beginning(prefix, place):
  (match,) = _find(_state("", "a.", "a.b.", "ab."), prefixes=[prefix])
  assert match.prefix == place


def test_as_many_prefixes_as_networks():
  with pytest.raises(WeightsError, match="given 1 time for 2 networks"):
    _find(_state("a.", "b."), prefixes=["a."], count=2)


def test_missing_tensors_are_all_named_under_the_likeliest_prefix():
  state = _state("net.")
  del state["net.bn.bias"], state["net.token"]
  with pytest.raises(WeightsError, match="lacks 2 of the 4 tensors of small under 'net.': bn.b"):
    _find(state)
  with pytest.raises(WeightsError, match="lacks 4 of the 4 .* It has: any, other"):
    _find({"other": np.zeros(1), "any": np.zeros(1)})


def test_what_nothing_reads_may_be_missing():
  state = _state("net.")
  del state["net.token"]
  (match,) = _find(state, optional={"token"})
  assert match.absent == ("token",) and "zeros for token" in match.describe()
  assert "token" not in match.names
  (whole,) = _find(_state("net."), optional={"token"})
  assert whole.absent == () and whole.names["token"] == "net.token"


def test_shapes_that_differ_are_all_named():
  changes = {"conv.weight": np.zeros((2, 4, 1, 1)), "bn.bias": np.zeros(3)}
  with pytest.raises(WeightsError) as error:
    _find(_state("") | changes)
  assert "conv.weight: the source has shape (2, 4, 1, 1), small needs (2, 3, 1, 1)" in str(
    error.value
  )
  assert "bn.bias: the source has shape (3,), small needs (2,)" in str(error.value)


def test_integers_are_no_weights():
  codes = np.zeros((2, 3, 1, 1), np.int8)
  with pytest.raises(WeightsError, match="Not floats but int8 are m.conv.weight: codes of a qu"):
    _find(_state("m.") | {"m.conv.weight": codes, "m.steps": np.array(3)})


def test_a_larger_network_is_refused():
  with pytest.raises(WeightsError, match="more blocks than small: m.layer.1.weight. Is it a lar"):
    _find(_state("m.") | {"m.layer.1.weight": np.zeros(2, np.float32)})


@pytest.mark.parametrize("extra", ["conv.bias", "register_tokens", "layer.0.se.fc.weight"])
def test_a_variant_with_more_inside_is_refused(extra):
  state = _state("m.") | {f"m.{extra}": np.zeros(2, np.float32)}
  with pytest.raises(WeightsError, match=f"inside of small .* not have: m.{extra}. It is anot"):
    _find(state)


@pytest.mark.parametrize("extra", ["m.conv.total_ops", "m.layer.0.se.total_ops", "steps"])
def test_single_numbers_inside_are_let_through(extra):
  state = _state("m.") | {extra: np.zeros(1, np.float32)}
  (match,) = _find(state)
  assert matching.unused(state, [match]) == [extra]


def test_a_prefix_ends_with_a_dot():
  with pytest.raises(WeightsError, match="lacks 4 of the 4 tensors of small: "):
    _find(_state("my_"))


def test_the_last_convolution_of_a_classifier_is_no_larger_network():
  shapes = {f"features.{i}.0.weight": (1,) for i in range(18)}
  state = {f"net.{name}": np.zeros(1, np.float32) for name in [*shapes, "features.18.0.weight"]}
  (match,) = matching.find(state, shapes, what="mobilenet")
  assert matching.unused(state, [match]) == ["net.features.18.0.weight"]
  with pytest.raises(WeightsError, match="more blocks than mobilenet: net.features.19.0.weight"):
    matching.find(state | {"net.features.19.0.weight": np.zeros(1)}, shapes, what="mobilenet")


def test_what_is_not_used_is_listed_in_groups():
  names = ["fc.weight", "fc.bias", "bn.num_batches_tracked", "aux.weight"]
  names += [f"optimizer.state.{i}.exp_avg" for i in range(20)]
  extra = {f"m.{name}": np.zeros(1) for name in names if not name.startswith("optimizer")}
  extra |= {name: np.zeros(1) for name in names if name.startswith("optimizer")}
  state = _state("m.") | extra
  (match,) = _find(state)
  lines = matching.describe_unused(matching.unused(state, [match]), [match])
  assert lines == [
    "Not used (24):",
    "  classification head: m.fc.bias, m.fc.weight",
    "  others: m.aux.weight, optimizer.* (20 tensors)",
    "  1 counter of batches (num_batches_tracked)",
  ]
  assert matching.describe_unused([], [match]) == []


@pytest.mark.parametrize(
  "backbone, publisher, ours, theirs",
  [
    ("resnet50_v1s", "mmsegmentation's", "conv1.3.weight", "stem.3.weight"),
    ("resnet50_v1s", "mmsegmentation's", "bn1.running_mean", "stem.7.running_mean"),
    ("resnet50_v1s", "mmsegmentation's", "layer1.0.bn1.bias", "layer1.0.bn1.bias"),
    ("resnet50_v1s", "torchcv's", "conv1.6.weight", "conv3.weight"),
    ("resnet50_v1s", "torchcv's", "conv1.1.bias", "bn1.bias"),
    ("resnet50_v1s", "torchcv's", "bn1.bias", "bn3.bias"),
    ("resnet50_v1c", "timm's", "stem.4.bias", "conv1.4.bias"),
    ("mobilenet_v2", "timm's", "features.0.1.bias", "bn1.bias"),
    ("mobilenet_v2", "timm's", "features.1.conv.1.weight", "blocks.0.0.conv_pw.weight"),
    ("mobilenet_v2", "timm's", "features.7.conv.1.1.bias", "blocks.3.0.bn2.bias"),
    ("mobilenet_v2", "timm's", "features.17.conv.2.weight", "blocks.6.0.conv_pwl.weight"),
  ],
)
def test_names_of_other_publishers(backbone, publisher, ours, theirs):
  assert namings(backbone)[publisher](ours) == theirs


def test_a_naming_is_recognized_and_said():
  rename = lambda name: re.sub("^conv", "stem", name)
  state = {f"module.{rename(name)}": array for name, array in _state("").items()}
  usual = namings("resnet18")
  (match,) = _find(state, namings={**usual, "another's": rename})
  assert match.describe() == "another's names, under 'module.'"
  assert match.names["conv.weight"] == "module.stem.weight"
  assert list(usual) == ["the usual"]
