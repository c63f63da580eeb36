"""Every config with every argument."""

import importlib
import itertools
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import configs
from configs import methods, presets
from semiseg_jax import sharding, stacks
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models import network
from semiseg_jax.training import experiment
from tests import small_network
from tests.configs.files import of_file
from tests.methods import cases

FOLDER = pathlib.Path(configs.__file__).parent
# What config files are made of.
PARTS = ("presets", "networks", "methods", "augmentations", "fitted", "adversarial", "protocols")
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", *PARTS))


# Files -> the argument that keeps what released code does, and the methods that this code has.
RELEASED = {
  "cps_voc": ("published", ("cps", "cps_cutmix")),
  "cps_city": ("published", ("cps", "cps_cutmix")),
  "unimatch_voc": ("quirks", ("unimatch", "fixmatch")),
  "unimatch_city": ("quirks", ("unimatch", "fixmatch")),
}
_OF_CPS = ("resnet50_v1s", "resnet101_v1s")  # backbones of `published`
# Long tables of choices, of which a docstring lists some; each is tried with the others' defaults.
TABLES = (tuple(methods.METHODS), tuple(network.BACKBONES))
# Choices that change one thing wherever they are made: likewise.
ALONE = (*presets.ADDED.possible[1:], "supervised")


class _Recording:
  """`presets.arguments` that keeps what the first call declares."""

  def __init__(self, arguments=presets.arguments):
    self.declared, self._arguments = {}, arguments

  def __call__(self, arg, **declared):
    self.declared = self.declared or declared  # a config may call another one's
    return self._arguments(arg, **declared)


def _declared(name):
  """The arguments that a config declares."""
  recording = _Recording()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(presets, "arguments", recording)
    of_file(name)()
  return recording.declared


def _arguments(name):
  """The choices of each argument: those the docstring lists; all possible ones must be."""
  module, declared = importlib.import_module(f"configs.{name}"), _declared(name)
  _, _, listed = module.__doc__.partition("Arguments:")
  listed = {
    key: tuple(text.split("|"))
    for key, text in re.findall(r"(\w+)=([\w|]+)", listed.replace("|\n", "|"))
  }
  assert listed.keys() == declared.keys()
  # Folders, and what goes with one: in tests of their own.
  declared = {k: kind for k, kind in declared.items() if not isinstance(kind, presets.Text)}
  choices = {}
  for key, kind in declared.items():
    possible = ("no", "yes") if isinstance(kind, bool) else kind.possible
    assert set(listed[key]) <= set(possible)
    if possible not in TABLES and not isinstance(kind, bool):
      assert set(listed[key]) == set(possible), "the docstring leaves choices out"
    several = possible if isinstance(kind, bool) else listed[key]
    choices[key] = tuple(value for value in several if value not in ALONE or possible in TABLES)
  more = [
    {key: value}
    for key, kind in declared.items()
    for value in getattr(kind, "possible", ())
    if value not in choices[key]
  ]
  return module, choices, more


def _all(name, default=()):
  """(argument, config) of all choices, but only the first one of the arguments in `default`."""
  module, choices, more = _arguments(name)
  choices = {key: v[:1] if key in default else v for key, v in choices.items()}
  more = [chosen for chosen in more if not chosen.keys() & {*default}]
  for chosen in [dict(zip(choices, v)) for v in itertools.product(*choices.values())] + more:
    key, methods_of_it = RELEASED.get(name, ("", ()))
    if chosen.get(key) == "yes" and chosen["method"] not in methods_of_it:
      continue
    if chosen.get("published") == "yes" and chosen.get("backbone", _OF_CPS[0]) not in _OF_CPS:
      continue
    arg = ",".join(f"{key}={value}" for key, value in chosen.items())
    yield arg, module.get_config(arg)


def _flat(config):
  return {
    f"{block}.{key}" if key else block
    for block, inner in config.items()
    for key in (inner if isinstance(inner, ConfigDict) else ("",))
  }


def test_there_are_configs():
  assert {"cps_toy", "toy_study", "cps_camvid", "cps_city", "cps_voc"} <= set(NAMES)
  assert {"mean_teacher_voc", "advsemiseg_voc", "pixel_contrast_city"} <= set(NAMES)
  assert {"gct_voc", "gct_city", "prevmatch_voc", "prevmatch_city"} <= set(NAMES)
  assert {"unimatch_voc", "unimatch_city", "unimatch_v2_voc", "own"} <= set(NAMES)
  assert {"unimatch_v2_city", "unimatch_v2_ade", "unimatch_v2_coco", "cutmix_seg_voc"} <= set(NAMES)
  assert "cutmix_seg_city" in NAMES
  assert {"pseudoseg_voc", "pseudoseg_coco", "pseudoseg_city"} <= set(NAMES)
  assert {"cct_voc", "cct_city", "cac_voc", "cac_city"} <= set(NAMES)
  assert {"mlmt_voc", "mlmt_toy"} <= set(NAMES)
  assert {"u2pl_voc", "u2pl_city", "reco_voc", "reco_city"} <= set(NAMES)
  assert {"self_training_voc", "self_training_city"} <= set(NAMES)
  assert {"s4gan_voc", "s4gan_city"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_arguments_give_a_config_that_builds(name):
  config = of_file(name)()
  rules.validate(config)
  assert _flat(config) == _flat(schema.default())
  config.method.pixel_contrast.class_weights = ()  # of other classes than four
  method = experiment.make_method(config, sharding.make_mesh(), classes=4, channels=3)
  assert method.stacks["networks"].network.backbone == config.model.backbone


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_argument_gives_a_config_that_builds(name):
  mesh, keys, seen = sharding.make_mesh(), _flat(schema.default()), set()
  for arg, config in _all(name):
    rules.validate(config)
    assert _flat(config) == keys, arg
    _without_class_weights(config)
    assert config.name not in seen, f"{config.name} stands for two"
    seen.add(config.name)
    method = experiment.make_method(config, mesh, classes=4, channels=3)
    assert method.stacks["networks"].network.backbone == config.model.backbone
    experiment.make_optimizer(config, method)
    small = _small(config, mesh)
    assert [s.batch for s in small.streams] == [s.batch for s in method.streams]


def _without_class_weights(config):
  """They are of other classes than the four of these tests."""
  config.method.pixel_contrast.class_weights = config.method.supervised.class_weights = ()


def _small(config, mesh):
  """The method of a config on the small network."""
  width = 8 if config.model.projection.kind != "none" else 0
  return small_network.method(config, projection=width, mesh=mesh)


def _kind(method):
  """What of a method decides which program is traced: of a number, whether it is 0."""

  def kind(value):
    if isinstance(value, dict):
      return {key: kind(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
      return [kind(inner) for inner in value]
    return value if isinstance(value, str) else bool(value)

  kept = method.to_dict()
  kept.pop("weight_ramp_steps")
  kept["cct"].pop("background")
  for key in ("steps", "ranked", "scales", "flip", "teacher_batch"):  # of its stages and labels
    kept["self_training"].pop(key)
  return json.dumps(kind(kept))


@pytest.mark.slow
def test_every_kind_of_loss_of_the_configs_traces():
  """In the phase of its last step; lists and backbones decide nothing of it."""
  mesh, seen = sharding.make_mesh(), set()
  for name in NAMES:
    for arg, config in _all(name, default=("ratio", "backbone")):
      _without_class_weights(config)
      kind = _kind(config.method)
      if kind in seen:
        continue
      seen.add(kind)
      config.data.strong.order = ("gray",)  # the changes of strong views have tests of their own
      config.train.batch_unlabeled = 4  # of which memories have their size
      method = _small(config, mesh)
      shapes = {name: stacks.shapes(stack) for name, stack in method.stacks.items()}
      params, stats = ({k: v[i] for k, v in shapes.items()} for i in (0, 1))
      batch = small_network.batch([s.name for s in method.streams], rows=4, size=(64, 64))
      for stream in method.streams:
        if stream.targets:
          fields = {"target": np.uint8, "confidence": np.uint8}
          batch[stream.name] |= {k: np.zeros((4, 64, 64), kind) for k, kind in fields.items()}
        if stream.view == "pair":
          batch[stream.name] |= cases.second_crop(batch[stream.name])
      phase = method.phase(config.train.steps - 1)
      memory = method.first_memory()
      total, out = jax.eval_shape(
        lambda *args, method=method, phase=phase: method.loss(*args, np.int32(0), phase),
        params,
        stats,
        memory,
        batch,
        jax.random.key(0),
      )
      assert total.shape == (), (name, arg)
      shapes = [
        jax.tree.map(np.shape, trees) for trees in ((out.stats, out.memory), (stats, memory))
      ]
      assert shapes[0] == shapes[1], (name, arg)
  assert {json.loads(kind)["name"] for kind in seen} == contract.modules().keys()


def test_the_study_is_the_toy_recipe_at_length():
  toy, study = (of_file(name)() for name in ("cps_toy", "toy_study"))
  for block in ("method", "model", "optimizer"):
    assert study[block].to_dict() == toy[block].to_dict()


@pytest.mark.parametrize("arg", ["ratios=1_8", "ratio", "1_8", "ratio:1_8"])
def test_an_unknown_argument_is_refused(arg):
  for name in NAMES:
    with pytest.raises(ConfigError, match=f"{arg}.*write key=value with .*ratio"):
      of_file(name)(arg)


def test_an_unknown_choice_is_refused_with_the_possible_ones():
  for key, options in {
    "method": "supervised, cps, cps_cutmix, mean_teacher",
    "published": "yes, no",
    "ratio": "1_16, 1_8, 1_4, 1_2",
    "backbone": "resnet18, resnet34, resnet50, .*resnet50_v1s, resnet101_v1s",
  }.items():
    with pytest.raises(ConfigError, match=f"{key}='any': .*{options}"):
      of_file("cps_city")(f"{key}=any")
  with pytest.raises(ConfigError, match="ratio='2': .* method='any': "):
    of_file("cps_toy")("ratio=2,method=any")


@pytest.mark.parametrize("name", RELEASED)
def test_released_code_is_refused_where_it_has_no_such_method(name):
  key, (first, second) = RELEASED[name]
  possible = _declared(name)["method"].possible
  with pytest.raises(
    ConfigError,
    match=f"{key}=yes is of method={first} and method={second}.*method=supervised does not read",
  ):
    of_file(name)(f"method=supervised,{key}=yes")
  for method in set(possible) - {first, second, "supervised"}:
    with pytest.raises(
      ConfigError, match=f"{key}=yes .* method={first} and method={second}; .* no {method}:"
    ):
      of_file(name)(f"method={method},{key}=yes")


def test_the_recipe_with_an_averaged_teacher_is_that_of_the_data_set():
  for data in ("voc", "city"):
    with pytest.raises(ConfigError, match=f"take configs/unimatch_v2_{data}.py"):
      of_file(f"unimatch_{data}")("method=unimatch_v2,quirks=yes")


@pytest.mark.parametrize("name", ["cps_voc", "cps_city"])
def test_published_is_refused_with_a_network_that_the_released_code_lacks(name):
  for backbone in ("dinov2_small", "mobilenet_v2", "hrnet_w48", "resnet50"):
    with pytest.raises(ConfigError, match=f"the released code has no {backbone}"):
      of_file(name)(f"backbone={backbone},published=yes")
  assert of_file(name)("backbone=resnet101_v1s,published=yes").method.compat


def test_published_is_no_argument_of_a_file_where_something_still_differs():
  """It sets everything or is refused; what cannot be set is told after 'What differs'."""
  for name in NAMES:
    text = importlib.import_module(f"configs.{name}").__doc__
    assert "What differs" not in text or "published" not in _declared(name), name


def test_arguments_are_typed():
  declared = {"ratio": presets.Choice("1_8", presets.RATIOS), "published": False}
  assert vars(presets.arguments(None, **declared)) == {"ratio": "1_8", "published": False}
  found = presets.arguments("published=yes,ratio=1_2", **declared)
  assert (found.ratio, found.published) == ("1_2", True)
  assert presets.arguments("published=no", published=True).published is False


@pytest.mark.parametrize(
  "arg, said",
  [
    ("publishd=yes", "write key=value with ratio, published. Did you mean 'published'"),
    ("ratio=1_22", "one of 1_16, 1_8, 1_4, 1_2. Did you mean '1_2'"),
    ("ratio=1_8,ratio=1_4", "argument ratio is given twice"),
  ],
)
def test_wrong_arguments_say_what_is_near(arg, said):
  with pytest.raises(ConfigError, match=said):
    presets.arguments(arg, ratio=presets.Choice("1_8", presets.RATIOS), published=False)


# lambda, crop, updates at 1/16, 1/8, 1/4, 1/2, weight decay, supervised loss
