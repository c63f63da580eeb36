"""Types and possible values of single keys: every default fits, every fault is one line."""

import math

import pytest

from configs import cps_toy
from semiseg_jax.config import domain, schema
from semiseg_jax.config.rules import faults, validate
from semiseg_jax.config.schema import Entry
from semiseg_jax.errors import ConfigError
from semiseg_jax.options import Key

TABLE = schema.table()
TUPLES = [path for path, entry in TABLE.items() if isinstance(entry.default, tuple)]


def test_every_default_is_possible_but_for_what_must_be_chosen():
  wrong = {path for path, entry in TABLE.items() if domain.fault(entry, entry.default)}
  assert wrong == {path for path, entry in TABLE.items() if entry.key.required}
  assert wrong == {"data.root", "data.labeled", "train.steps"}


@pytest.mark.parametrize("path", TUPLES)
@pytest.mark.parametrize("item", [None, (1, 2), True, math.nan, -math.inf])
def test_no_tuple_holds_what_is_no_number_and_no_text(path, item):
  items = (item,) * max(len(TABLE[path].default), 2)
  assert domain.fault(TABLE[path], items).startswith(f"{path}={items!r}: ")


def _entry(kind, **of_key):
  return Entry("block.name", kind, None, Key("", **of_key), object)


@pytest.mark.parametrize(
  "kind, of_key, right, wrong",
  [
    (int, {}, [0, -3], [True, 1.0, "1", None, (1,)]),
    (float, {}, [1, 0.5], [True, math.nan, math.inf, "0.5", (0.5,)]),
    (bool, {}, [True, False], [1, 0, "True"]),
    (str, {}, ["", "a"], [1, None, ("a",)]),
    (int, {"at_least": 0, "at_most": 4}, [0, 4], [-1, 5]),
    (float, {"above": 0, "below": 1}, [0.1], [0.0, 1.0]),
    (str, {"one_of": ("a", "b")}, ["a"], ["c", "", "ab"]),
    (str, {"one_of": lambda: {"a": 1}}, ["a"], ["b"]),
    (tuple[int, ...], {}, [(), (1,), [1, 2]], [(1.0,), 1, (True,)]),
    (tuple[int, int], {"at_least": 1}, [(1, 2), [3, 4]], [(1,), (1, 2, 3), (0, 1)]),
    (tuple[float, float], {"rises": True}, [(1, 1), (0.5, 2)], [(2, 1), ("a", "b")]),
    (tuple[int, ...], {"length": (0, 2)}, [(), (1, 2)], [(1,), (1, 2, 3)]),
    (tuple[str, ...], {"one_of": ("a", "b")}, [(), ("b", "a")], [("c",), "a", (1,)]),
  ],
)
def test_types_and_domains(kind, of_key, right, wrong):
  entry = _entry(kind, **of_key)
  assert [value for value in right if domain.fault(entry, value)] == []
  assert [value for value in wrong if not domain.fault(entry, value)] == []


@pytest.mark.parametrize(
  "kind, of_key, said",
  [
    (int, {"at_least": 1}, "a whole number, 1 or more"),
    (float, {"above": 0, "at_most": 1}, "a number, above 0, at most 1"),
    (str, {"one_of": ("a", "")}, "one of 'a', ''"),
    (
      tuple[float, float],
      {"above": 0, "rises": True},
      "2 numbers, each above 0, the first not above the second",
    ),
    (tuple[int, ...], {"length": (0, 2)}, "none or 2 whole numbers"),
    (tuple[str, ...], {"one_of": ("a", "b")}, "any of 'a', 'b'"),
    (bool, {}, "True or False"),
  ],
)
def test_possible_values_in_words(kind, of_key, said):
  assert domain.describe(_entry(kind, **of_key)) == said


def test_what_must_be_chosen_says_what_it_is():
  line = domain.fault(TABLE["data.labeled"], "")
  assert line.startswith("data.labeled is empty: list of the labeled pictures")


@pytest.mark.parametrize(
  "path, value, near",
  [
    ("method.name", "mean_techer", "'mean_teacher'"),
    ("model.backbone", "resnet50_v1", "'resnet50_v1s'"),
    ("data.strong.order", ("jitter", "grey"), "'gray'"),
  ],
)
def test_a_near_spelling_is_named(path, value, near):
  assert domain.fault(TABLE[path], value).endswith(f" Did you mean {near}?")


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
    ("method.add", ("contrast",)),
  ],
)
def test_a_value_that_no_rule_could_read_is_one_line_among_others(key, value):
  config = cps_toy.get_config()
  config.update_from_flattened_dict({key: value, "eval.network": "7"})
  first, *lines = faults(config)
  assert first.startswith(f"{key}={value!r}: ")
  assert [line.partition("=")[0] for line in lines] == ["eval.network"]
  with pytest.raises(ConfigError, match="This config cannot run:"):
    validate(config)
