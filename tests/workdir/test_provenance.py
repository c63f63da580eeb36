"""What a run records of itself, and which differences make it another run."""

import copy
import json

import pytest

from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.training import experiment
from semiseg_jax.workdir import provenance
from tests import small_city


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  root = tmp_path_factory.mktemp("data") / "small"
  small_city.write(root)
  return Dataset.open(root)


def _describe(
  dataset, arg="ratio=1_4", val="val", labeled="labeled_1_4", fixed=None, targets=None, **changes
):
  config = small_city.config(dataset.root, arg, **changes)
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  split = splits.make_split(dataset, labeled=labeled, unlabeled="rest", train="train")
  val = splits.resolve(dataset, val) if val else None
  nets = experiment.describe_nets(method, method.evaluated)
  lists = {**split.lists(), "val": val}
  return provenance.describe_run(config, dataset, lists, nets, fixed or {}, targets)


def test_what_is_recorded(dataset):
  meta = _describe(dataset)
  assert json.loads(json.dumps(meta)) == meta
  assert meta["config"]["data"]["crop"] == [32, 32]
  assert meta["config"]["method"]["name"] == "cps"
  found = meta["dataset"]
  assert found["name"] == "small_city" and found["channels"] == 3
  assert found["classes"] == list(small_city.CLASSES)
  assert found["colors"] == [list(color) for color in small_city.COLORS]
  assert found["fingerprint"] == dataset.info.fingerprint
  counts = {use: ids["ids"] for use, ids in found["splits"].items()}
  assert counts == {"labeled": 4, "unlabeled": 12, "val": 3}
  assert found["splits"]["labeled"]["name"] == "labeled_1_4"
  assert len({ids["sha256"] for ids in found["splits"].values()}) == 3
  assert meta["stacks"] == {"networks": 2}
  (member,) = meta["nets"]["networks"]
  assert (member["stack"], member["copies"], member["shift"]) == ("networks", 2, [])
  assert member["model"] == meta["config"]["model"] and meta["evaluated"] == ["networks"]
  assert "val" not in _describe(dataset, val="")["dataset"]["splits"]


def test_the_same_run_passes(dataset):
  saved = json.loads(json.dumps(_describe(dataset)))
  provenance.check_same_run(saved, _describe(dataset), "runs/a", schema.free())


def _error(saved, now):
  with pytest.raises(ConfigError) as error:
    provenance.check_same_run(saved, now, "runs/a", schema.free())
  return str(error.value)


def test_the_differing_keys_are_named_with_both_values(dataset):
  now = _describe(dataset, seed=7, optimizer__learning_rate=0.5, data__crop=(32, 48))
  text = _error(_describe(dataset), now)
  first, *lines, _ = text.splitlines()
  assert first == "runs/a holds another run:"
  assert [line.strip() for line in lines] == [
    "data.crop: [32, 32] then, [32, 48] now",
    "optimizer.learning_rate: 0.1 then, 0.5 now",
    "seed: 0 then, 7 now",
  ]
  assert "--workdir" in text and "--config.init_from" in text


@pytest.mark.parametrize("there", ["then", "now"])
def test_a_key_that_one_of_the_two_lacks_is_named(dataset, there):
  saved, now = _describe(dataset), _describe(dataset)
  lacking = saved if there == "then" else now
  del lacking["config"]["method"]["cutmix_boxes"]
  assert f"method.cutmix_boxes: {'None then, 3' if there == 'then' else '3 then, None'} now" in (
    _error(saved, now)
  )


def test_a_key_that_an_older_run_lacks_stands_at_its_default(dataset):
  saved, now = json.loads(json.dumps(_describe(dataset))), _describe(dataset)
  del saved["config"]["method"]["cutmix_boxes"], saved["config"]["optimizer"]["power"]

  def check(now):
    both = [meta | {"config": schema.complete(meta["config"])} for meta in (saved, now)]
    provenance.check_same_run(*both, "runs/a", schema.free())

  check(now)
  with pytest.raises(ConfigError, match="method.cutmix_boxes: 3 then, 2 now") as error:
    check(_describe(dataset, method__cutmix_boxes=2))
  assert "power" not in str(error.value)


def test_what_does_not_change_the_run_is_free(dataset):
  free = {
    "name": "other",
    "init_from": "runs/b",
    "data__workers": 3,
    "train__log_every": 7,
    "eval__batch": 1,
    "eval__mode": "slide",
    "checkpoint__keep": 9,
    "runtime__compilation_cache": "off",
    "model__pretrained": "moved/weights",
  }
  provenance.check_same_run(_describe(dataset), _describe(dataset, **free), "runs/a", schema.free())


@pytest.mark.parametrize(
  "key, value",
  [
    ("train__steps", 9),
    ("train__batch_labeled", 4),
    ("data__flip", 0.0),
    ("data__unlabeled", "all"),
    ("model__dtype", "bfloat16"),
    ("method__weight", 2.0),
    ("method__weight_ramp_steps", 5),
    ("optimizer__power", 1.0),
  ],
)
def test_what_changes_the_run_is_not(dataset, key, value):
  assert f"{key.replace('__', '.')}: " in _error(
    _describe(dataset), _describe(dataset, **{key: value})
  )


def test_other_records_and_other_lists(dataset, tmp_path):
  saved = _describe(dataset)
  other = copy.deepcopy(saved)
  other["dataset"]["fingerprint"] = "0" * 64
  assert "the dataset 'small_city' has other records now" in _error(saved, other)
  more = tmp_path / "labeled_1_4.txt"
  more.write_text("\n".join(splits.resolve(dataset, "train").ids[:8]))
  text = _error(saved, _describe(dataset, labeled=str(more)))
  assert "the labeled list has other ids now" in text
  assert "the unlabeled list has other ids now" in text


def test_other_targets_and_other_fixed_networks(dataset):
  targets = lambda letter: {"fingerprint": 64 * letter}
  saved = _describe(dataset, targets=targets("a"))
  provenance.check_same_run(saved, _describe(dataset, targets=targets("a")), "r", schema.free())
  for now in (targets("b"), None):
    text = _error(saved, _describe(dataset, targets=now))
    assert "data.targets: the stored targets are others now" in text
  fixed = lambda checksum: {"judge": {"source": "runs/judge", "checksum": checksum}}
  saved = _describe(dataset, fixed=fixed(1))
  provenance.check_same_run(saved, _describe(dataset, fixed=fixed(1)), "r", schema.free())
  text = _error(saved, _describe(dataset, fixed=fixed(2)))
  assert "the fixed network 'judge' of runs/judge has other numbers now" in text


def test_another_validation_list_goes_on(dataset):
  saved, now = _describe(dataset), _describe(dataset)
  now["dataset"]["splits"]["val"]["sha256"] = "0" * 64
  provenance.check_same_run(saved, now, "runs/a", schema.free())


def test_write_json_is_whole_or_not_at_all(tmp_path):
  path = tmp_path / "config.json"
  provenance.write_json(path, {"a": [1, 2]})
  with pytest.raises(TypeError):
    provenance.write_json(path, {"a": object()})
  assert json.loads(path.read_text()) == {"a": [1, 2]}
  assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
