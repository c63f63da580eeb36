"""The table of keys: each is declared once, older runs are completed, no backend is started."""

import collections
import dataclasses
import json
import os
import pathlib
import pickle
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from configs import cps_city, cps_toy
from semiseg_jax import options
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import described
from semiseg_jax.methods import contract
from semiseg_jax.models import network

REPOSITORY = pathlib.Path(__file__).parents[2]


def test_every_key_is_declared_by_one_class():
  declared = collections.Counter()
  for block, classes in schema.blocks().items():
    for owner in classes:
      declared.update(f"{block}.{name}".lstrip(".") for name in options.own_keys(owner))
  assert [path for path, times in declared.items() if times != 1] == []
  assert declared.keys() == schema.table().keys() == schema.flat(schema.default()).keys()


def test_every_key_has_a_consequence_and_a_type_that_is_known():
  for path, entry in schema.table().items():
    assert entry.key.help and entry.key.help[-1] != ".", path
    assert entry.type in (int, float, str, bool) or entry.type.__origin__ is tuple, path


def test_keys_under_a_condition_name_keys_and_their_possible_values():
  entries = schema.table()
  for entry in entries.values():
    for other, values in entry.key.when.items():
      around = [f"{block}.{other}" for block in (entry.block, entry.block.rpartition(".")[0])]
      (path,) = [path for path in around if path in entries]
      assert values and type(values[0]) is type(entries[path].default), (entry.path, path)


def test_blocks_in_the_order_of_the_pipeline():
  top = dict.fromkeys(path.partition(".")[0] for path in schema.blocks())
  assert tuple(top) == (
    *("", "data", "model", "method", "optimizer", "train", "eval", "checkpoint", "runtime"),
  )
  assert next(path for path in schema.table() if path.startswith("method.")) == "method.name"


def test_every_default_config_is_one_of_its_own():
  first = schema.default()
  first.data.strong.jitter_p = 0.1
  assert schema.default().data.strong.jitter_p == 0.8


def test_methods_read_keys_of_the_table_only():
  entries = schema.table()
  for name, module in contract.modules().items():
    paths = contract.paths(name, module)
    assert set(paths.values()) <= entries.keys(), name
    for key, path in paths.items():
      (field, _) = options.keys(module.Options)[key]
      assert field.default == entries[path].default, f"{name} has another default of {path}"


def test_options_of_networks_are_the_fields_of_their_modules():
  blocks = schema.default().model.to_dict()
  for name, module in network.option_blocks().items():
    assert blocks[name] == options.defaults(module)
    fields = {field.name for field in dataclasses.fields(module)}
    assert blocks[name].keys() <= fields
  head = network.HEADS["deeplabv3plus"](num_classes=3)
  assert head.aspp_width == network.HEADS["deeplabv3plus"].aspp_width == 256
  assert pickle.loads(pickle.dumps(head)) == head and hash(head.clone()) == hash(head)
  assert head.clone(aspp_width=8).aspp_width == 8


def test_free_keys():
  whole = {k for k in schema.table() if k.startswith(("eval.", "checkpoint.", "runtime."))}
  data = ("root", "unlabeled_root", "targets", "tfds_classes", "prepare", "workers")
  others = {"name", "profile_steps", "init_from", "model.pretrained"}
  others |= {"train.log_every", "train.baseline"}
  others |= {"derived", "optimizer.continuation", "optimizer.continuation_share"}
  whole.remove("checkpoint.spaced")  # those of before would be absent
  assert schema.free() == whole | others | {f"data.{name}" for name in data}


def _saved(config):
  """As a checkpoint has it."""
  return json.loads(config.to_json_best_effort())


def test_a_saved_config_is_completed_to_itself():
  for config in (cps_toy.get_config("method=advsemiseg"), cps_city.get_config()):
    assert ConfigDict(schema.complete(_saved(config))) == config


def test_an_older_config_has_the_defaults_of_what_it_lacks():
  config = cps_toy.get_config()
  saved = _saved(config)
  del saved["method"]["cutmix_boxes"], saved["data"]["strong"], saved["method"]["pixel_contrast"]
  assert ConfigDict(schema.complete(saved)) == config
  saved["method"]["cutmix_area"] = [0.1, 0.2]
  assert schema.complete(saved)["method"]["cutmix_area"] == (0.1, 0.2)


def test_older_runs_keep_whole_pictures_at_their_own_sizes():
  config = cps_toy.get_config()
  saved = _saved(config)
  assert described.complete(saved).eval.whole == config.eval.whole == "padded"
  del saved["eval"]["whole"]
  assert schema.complete(saved)["eval"]["whole"] == "as_is"
  assert described.complete(saved).eval.whole == "as_is"


def test_renamed_keys_keep_their_values(monkeypatch):
  known = dataclasses.replace(schema.table()["method.weight"].key, was=("method.lambda",))
  table = schema.table()
  table["method.weight"] = dataclasses.replace(table["method.weight"], key=known)
  monkeypatch.setattr(schema, "table", lambda: table)
  saved = _saved(cps_toy.get_config())
  saved["method"]["lambda"] = 3.5
  del saved["method"]["weight"]
  assert schema.complete(saved)["method"]["weight"] == 3.5


def test_mends_see_the_whole_older_config(monkeypatch):
  def mend(old):
    slow = old.pop("method.slow")
    return old | {"method.weight_ramp": "sigmoid" if slow else "linear"}

  monkeypatch.setattr(schema, "MENDS", (mend,))
  saved = _saved(cps_toy.get_config())
  saved["method"]["slow"] = True
  assert schema.complete(saved)["method"]["weight_ramp"] == "sigmoid"


def test_keys_that_are_gone(monkeypatch):
  monkeypatch.setattr(schema, "GONE", {"train.old": (1, 2)})
  saved = _saved(cps_toy.get_config())
  saved["train"]["old"] = [1, 2]
  assert "old" not in schema.complete(saved)["train"]
  saved["train"]["old"], saved["eval"]["other"] = [1, 3], 0
  with pytest.raises(ConfigError, match=r"train.old=\[1, 3\], eval.other=0, which this version"):
    schema.complete(saved)


@pytest.mark.slow
def test_a_config_is_loaded_before_the_flags_of_xla_are_set():
  code = """
import os
from configs import cps_toy
from semiseg_jax.config import printing, rules
config = cps_toy.get_config()
rules.validate(config)
list(printing.all_keys())
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
import jax
print(jax.device_count())
"""
  env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
  ended = subprocess.run(
    [sys.executable, "-c", code], cwd=REPOSITORY, env=env, capture_output=True, text=True
  )
  assert ended.stdout == "3\n", ended.stderr
