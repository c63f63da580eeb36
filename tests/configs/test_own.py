"""The recipe that own.py derives from a data set and a budget."""

import dataclasses
import json

import pytest

from configs import fitted, own
from semiseg_jax import seals
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError, DataError, WeightsError
from semiseg_jax.models import pretrained, weight_sources
from semiseg_jax.models.network import BACKBONES
from semiseg_jax.training import derived
from tests import small_city

FACTS = fitted.Facts(
  name="photos",
  classes=5,
  channels=3,
  labeled=100,
  unlabeled=900,
  evaluated=20,
  sizes=((480, 640),) * 3,
)


def _fit(method="cps_cutmix", backbone="", weights="none", budget="laptop", **changes):
  """(config, {key: value}, {key: reason}) of FACTS with changes."""
  c = schema.default()
  c.data.root, c.data.labeled = "data/photos", "labeled"
  facts = dataclasses.replace(FACTS, **changes)
  made = fitted.fit(
    c, facts, method=method, added="no", backbone=backbone, weights=weights, budget=budget
  )
  assert rules.faults(c) == []
  values = schema.flat(c.to_dict())
  assert all(values[one.key] == one.value and one.reason for one in made)
  return c, {one.key: one.value for one in made}, {one.key: one.reason for one in made}


@pytest.fixture
def weights(tmp_path):
  """A folder that says it holds weights."""
  (tmp_path / pretrained.METADATA_FILE).write_text("{}")
  return str(tmp_path)


@pytest.mark.parametrize(
  "size,budget,crop",
  [
    ((480, 640), "laptop", 256),
    ((480, 640), "gpu", 480),
    ((3000, 4000), "gpu", 512),
    ((100, 130), "gpu", 96),  # the multiple of 32 that fits
    ((20, 20), "laptop", 32),
  ],
)
def test_crops_fit_into_the_pictures(size, budget, crop):
  c, values, reasons = _fit(budget=budget, sizes=(size,))
  assert c.data.crop == values["data.crop"] == (crop, crop)
  assert ("shrink them" in reasons["data.crop"]) == (size[0] == 3000)
  assert ("1 of 1 picture smaller" in reasons["data.padding"]) == (size[0] == 20)


@pytest.mark.parametrize(
  "labeled,unlabeled,budget,steps",
  [
    # 100 passes over 900 in batches of 8 are 11,250, twice from scratch.
    (100, 900, "gpu", 22_500),
    (100, 100_000, "gpu", 80_000),
    (8, 40, "gpu", 8000),
    (100, 900, "laptop", 3000),
    (10, 20, "laptop", 800),
  ],
)
def test_steps_follow_the_pictures_within_the_budget(labeled, unlabeled, budget, steps):
  for method in ("cps_cutmix", "supervised"):  # a baseline has as many
    c, _, _ = _fit(method, labeled=labeled, unlabeled=unlabeled, budget=budget)
    assert c.train.steps == steps


def test_weights_halve_the_steps_and_take_the_ramp(weights):
  scratch, _, _ = _fit(budget="gpu")
  warm, values, reasons = _fit(budget="gpu", weights=weights)
  assert (warm.train.steps, scratch.train.steps) == (11_200, 22_500)
  assert (warm.method.weight_ramp_steps, scratch.method.weight_ramp_steps) == (0, 3000)
  assert values["model.pretrained"] == weights and values["data.std"] == (0.229, 0.224, 0.225)
  # Mean squared distances have a lambda of 100 from published weights on, a tenth from scratch.
  assert _fit("mean_teacher", weights=weights)[0].method.weight == 100
  assert _fit("mean_teacher")[0].method.weight == 10


def test_batches_are_no_larger_than_the_lists():
  c, _, reasons = _fit(labeled=3, unlabeled=5, budget="gpu")
  assert (c.train.batch_labeled, c.train.batch_unlabeled) == (2, 4)
  assert "3 pictures" in reasons["train.batch_labeled"]


def test_large_pictures_are_evaluated_in_windows_of_the_crop():
  assert _fit(sizes=((480, 640), (1024, 1024)))[0].eval.mode == "whole"
  c, _, reasons = _fit(sizes=((480, 640), (1024, 1025)))
  assert (c.eval.mode, c.eval.window) == ("slide", (256, 256))
  assert "1024 high x 1025 wide" in reasons["eval.mode"]
  assert _fit(evaluated_sizes=((9, 9), (2000, 1000)))[0].eval.mode == "slide"
  assert _fit(sizes=((1024, 2048),), budget="gpu")[0].eval.mode == "whole"


def test_nothing_is_evaluated_without_a_list():
  c, _, reasons = _fit(evaluated=0)
  assert c.data.val == "" and "--holdout" in reasons["data.val"]


def test_labels_of_all_pictures_teach_without_them_too():
  assert _fit(unlabeled=0)[0].data.unlabeled == "all"
  assert _fit("supervised", unlabeled=0)[0].data.unlabeled == "rest"
  assert _fit()[0].data.unlabeled == "rest"


@pytest.mark.parametrize(
  "channels,own,mean",
  [(3, (), (0.485, 0.456, 0.406)), (2, (), (0.5, 0.5)), (2, (0.1, 0.7), (0.1, 0.7))],
)
def test_normalization_is_that_of_the_pictures_where_nothing_is_pretrained(channels, own, mean):
  c, _, _ = _fit(weights="auto" if channels == 2 else "none", channels=channels, mean=own, std=own)
  assert c.data.mean == mean and len(c.data.std) == channels and c.model.pretrained == ""


def test_lite_weights_have_their_own_normalization(weights):
  c, _, _ = _fit(backbone="efficientnet_lite0", weights=weights, mean=(0.1,) * 3, std=(0.1,) * 3)
  assert c.data.mean == (127 / 255,) * 3 and c.data.std == (128 / 255,) * 3


@pytest.mark.parametrize("budget,backbone", [("laptop", "mobilenet_v2"), ("gpu", "resnet50_v1s")])
def test_the_budget_chooses_a_backbone_only_where_none_is_named(budget, backbone):
  assert _fit(budget=budget)[0].model.backbone == backbone
  c, values, _ = _fit(budget=budget, backbone="resnet18")
  assert c.model.backbone == "resnet18" and "model.backbone" not in values
  assert c.model.deeplabv3plus.decoder_width == {"laptop": 96, "gpu": 256}[budget]


def test_a_vision_transformer_keeps_its_optimizer_and_whole_patches():
  c, _, _ = _fit(backbone="dinov2_small", budget="gpu")
  assert c.data.crop == (476, 476) and c.optimizer.name == "adamw"
  assert c.optimizer.learning_rate == 5e-6


@pytest.mark.parametrize("method", ["unimatch", "u2pl", "cac", "prevmatch", "st_plus_plus", "gct"])
def test_every_kind_of_method_fits(method):
  c, values, reasons = _fit(method, classes=3)
  if method == "unimatch":  # twice the rate and half the decay, as in every other recipe
    assert c.optimizer.learning_rate == pytest.approx(0.02)
    assert reasons["optimizer.learning_rate"] == "unimatch"
  if method == "u2pl":
    assert c.method.u2pl.low_rank == 1


def test_missing_weights_are_named_with_their_address_and_checksum():
  with pytest.raises(ConfigError) as error:
    _fit(weights="auto", backbone="mobilenet_v2")
  said = str(error.value)
  assert "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth" in said
  assert "SHA-256 begins with b0353104" in said and "weights=none" in said
  with pytest.raises(WeightsError, match="(?s)SHA-256 b938bf1bc15cd2.*data_prep.pretrained"):
    pretrained.load_backbone("nowhere", "dinov2_small")
  assert weight_sources.ADDRESSES.keys() <= BACKBONES.keys()
  assert all(len(weight_sources.sha256(name)) in (8, 64) for name in weight_sources.ADDRESSES)
  assert weight_sources.how_to_get("tiny", "x").startswith("python -m data_prep.pretrained")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


def test_the_file_reads_the_data_set_and_says_why(root):
  arg = f"root={root},ratio=1_4,backbone=tiny,method=prevmatch,budget=laptop"
  c = own.get_config(arg)
  assert rules.faults(c) == [] and c.data.root == str(root)
  said = "\n".join(derived.lines(c))
  assert "derived    train.steps=800: 40 passes over 12 unlabeled pictures" in said
  # What a method derives from the steps is written down as well.
  assert "derived    method.prevmatch.every=40: follows" in said
  c.train.steps = 77
  assert "given      train.steps=77; derived was 800" in "\n".join(derived.lines(c))


def test_without_a_data_set_the_recipe_is_the_one_for_all():
  c = own.get_config("method=unimatch")
  assert c.train.steps == 20_000 and c.derived == () and c.data.root == "data/mine"
  with pytest.raises(ConfigError, match="budget and weights go with root="):
    own.get_config("budget=laptop")


@pytest.mark.parametrize(
  "arg,kind,said",
  [
    ("root=nowhere", DataError, "nowhere does not exist"),
    ("root=", ConfigError, "argument root='': a text is missing"),
    ("root={root},ratio=1_2", ConfigError, "no list 'labeled_1_2', only .*labeled_1_4"),
    ("root={root},budget=phone", ConfigError, "one of auto, laptop, gpu"),
  ],
)
def test_wrong_arguments_are_named(root, arg, kind, said):
  with pytest.raises(kind, match=said):
    own.get_config(arg.format(root=root))


def _begun(tmp_path, config):
  (tmp_path / "config.json").write_text(config.to_json())
  return str(tmp_path)


def test_a_run_keeps_what_was_derived_at_its_first_start(root, tmp_path, capsys):
  arg = f"root={root},ratio=1_4,backbone=tiny,method=prevmatch"
  first, later = (own.get_config(f"{arg},budget={b}") for b in ("laptop", "gpu"))
  assert later.train.steps != first.train.steps
  later.train.log_every = first.train.log_every = 7
  workdir = _begun(tmp_path, first)
  kept = derived.recalled(later, workdir)
  assert json.loads(kept.to_json()) == json.loads(first.to_json())
  assert "NOTE       train.steps=800 as at the first start; now 8000" in capsys.readouterr().out
  later.train.steps = 5000  # given on the command line
  assert derived.recalled(later, workdir).train.steps == 5000
  capsys.readouterr()
  same = own.get_config(f"{arg},budget=laptop")
  assert derived.recalled(same, workdir) == same and not capsys.readouterr().out


def test_derived_values_are_those_of_a_checkpoint_or_of_a_config_that_is_whole(
  root, tmp_path, monkeypatch
):
  arg = f"root={root},ratio=1_4,backbone=tiny,method=prevmatch"
  first, later = (own.get_config(f"{arg},budget={b}") for b in ("laptop", "gpu"))
  file, steps = tmp_path / "config.json", first.train.steps
  fields = seals.sealed(json.loads(first.to_json()))
  file.write_text(json.dumps(fields))
  assert derived.recalled(later, str(tmp_path)).train.steps == steps
  for damaged in (json.dumps(fields).replace(f"steps={steps}", "steps=7"), '{"train": {'):
    file.write_text(damaged)
    with pytest.raises(ConfigError, match="config.json: .* delete the file, and the values"):
      derived.recalled(later, str(tmp_path))
  meta = {"config": json.loads(first.to_json())}
  monkeypatch.setattr(derived.checkpoints, "newest", lambda workdir: (3, meta))
  assert derived.recalled(later, str(tmp_path)).train.steps == steps


def test_texts_of_derived_values_are_read_back():
  one = derived.Derived("data.root", "C:/a: b", "two: parts")
  assert derived.read([derived.text(one), "no text", "a=1"]) == [one]


def test_what_was_derived_for_a_choice_that_was_given_up_is_idle():
  c, values, _ = _fit()
  c.derived = tuple(f"{key}={value!r}: why" for key, value in values.items())
  c.model.head = "fcn"
  assert c.model.deeplabv3plus.aspp_width == 128 and rules.faults(c) == []
  c.model.deeplabv3plus.aspp_width = 64
  assert "aspp_width=64" in "\n".join(rules.faults(c))
