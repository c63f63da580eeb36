"""Every config with every argument; the recipes as published; keys and their readers."""

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
from configs import presets
from semiseg_jax import sharding, stacks
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.training import experiment
from tests import small_network

FOLDER = pathlib.Path(configs.__file__).parent
NAMES = sorted(
  p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "presets", "networks")
)
PACKAGE = FOLDER.parent / "semiseg_jax"


# Methods that the released code of CPS does not have.
NOT_RELEASED = ("supervised", "mean_teacher", "cutmix_seg", "cpc")


class _Recording:
  """`presets.arguments` that keeps what the first call declares."""

  def __init__(self, arguments=presets.arguments):
    self.declared, self._arguments = {}, arguments

  def __call__(self, arg, **declared):
    self.declared = self.declared or declared  # a config may call another one's
    return self._arguments(arg, **declared)


def _arguments(name, monkeypatch):
  """The choices of each argument: those the docstring lists; all possible ones must be."""
  module, recording = importlib.import_module(f"configs.{name}"), _Recording()
  with monkeypatch.context() as patch:
    patch.setattr(presets, "arguments", recording)
    module.get_config()
  _, _, listed = module.__doc__.partition("Arguments:")
  listed = {
    key: tuple(text.split("|"))
    for key, text in re.findall(r"(\w+)=([\w|]+)", listed.replace("|\n", "|"))
  }
  assert listed.keys() == recording.declared.keys()
  choices = {}
  for key, kind in recording.declared.items():
    possible = ("no", "yes") if isinstance(kind, bool) else kind.possible
    assert set(listed[key]) <= set(possible)
    if key != "backbone" and not isinstance(kind, bool):
      assert set(listed[key]) == set(possible), "the docstring leaves choices out"
    choices[key] = ("no", "yes") if isinstance(kind, bool) else listed[key]
  return module, choices


def _all(name, monkeypatch):
  module, choices = _arguments(name, monkeypatch)
  for values in itertools.product(*choices.values()):
    chosen = dict(zip(choices, values))
    if chosen.get("published") == "yes" and chosen.get("method") in NOT_RELEASED:
      continue
    arg = ",".join(f"{key}={value}" for key, value in chosen.items())
    yield arg, module.get_config(arg)


def _get(name):
  return importlib.import_module(f"configs.{name}").get_config


def _flat(config):
  return {
    f"{block}.{key}" if key else block
    for block, inner in config.items()
    for key in (inner if isinstance(inner, ConfigDict) else ("",))
  }


def test_there_are_configs():
  assert {"cps_toy", "toy_study", "cps_camvid", "cps_city", "cps_voc"} <= set(NAMES)
  assert {"mean_teacher_voc", "advsemiseg_voc", "pixel_contrast_city"} <= set(NAMES)
  assert {"gct_voc", "prevmatch_voc", "prevmatch_city"} <= set(NAMES)
  assert {"unimatch_voc", "unimatch_city", "unimatch_v2_voc"} <= set(NAMES)
  assert {"self_training_voc", "self_training_city"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_gives_a_config_that_builds(name, monkeypatch):
  mesh, keys, seen = sharding.make_mesh(), _flat(schema.default()), set()
  for arg, config in _all(name, monkeypatch):
    rules.validate(config)
    assert _flat(config) == keys, arg
    config.method.pixel_contrast.class_weights = ()  # of other classes than four
    assert config.name not in seen, f"{config.name} stands for two"
    seen.add(config.name)
    method = experiment.make_method(config, mesh, classes=4, channels=3)
    assert method.stacks["networks"].network.backbone == config.model.backbone
    experiment.make_optimizer(config, method)
    small = _small(config, mesh)
    assert [s.batch for s in small.streams] == [s.batch for s in method.streams]


def _small(config, mesh):
  """The method of a config on the small network."""
  width = 8 if config.model.projection.kind != "none" else 0
  return small_network.method(config, projection=width, mesh=mesh)


@pytest.mark.slow
def test_every_kind_of_loss_of_the_configs_traces(monkeypatch):
  """In the phase of its last step."""
  mesh, seen = sharding.make_mesh(), set()
  for name in NAMES:
    for arg, config in _all(name, monkeypatch):
      config.method.pixel_contrast.class_weights = ()
      kind = config.method.to_json()
      if kind in seen:
        continue
      seen.add(kind)
      method = _small(config, mesh)
      shapes = {name: stacks.shapes(stack) for name, stack in method.stacks.items()}
      params, stats = ({k: v[i] for k, v in shapes.items()} for i in (0, 1))
      batch = small_network.batch([s.name for s in method.streams], rows=4, size=(64, 64))
      for stream in method.streams:
        if stream.targets:
          fields = {"target": np.uint8, "confidence": np.uint8}
          batch[stream.name] |= {k: np.zeros((4, 64, 64), kind) for k, kind in fields.items()}
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
  toy, study = (_get(name)() for name in ("cps_toy", "toy_study"))
  for block in ("method", "model", "optimizer"):
    assert study[block].to_dict() == toy[block].to_dict()


@pytest.mark.parametrize("arg", ["ratios=1_8", "ratio", "1_8", "ratio:1_8"])
def test_an_unknown_argument_is_refused(arg):
  for name in NAMES:
    with pytest.raises(ConfigError, match=f"{arg}.*write key=value with .*ratio"):
      _get(name)(arg)


def test_an_unknown_choice_is_refused_with_the_possible_ones():
  for key, options in {
    "method": "supervised, cps, cps_cutmix, mean_teacher",
    "published": "yes, no",
    "ratio": "1_16, 1_8, 1_4, 1_2",
    "backbone": "resnet18, resnet34, resnet50, .*resnet50_v1s, resnet101_v1s",
  }.items():
    with pytest.raises(ConfigError, match=f"{key}='any': .*{options}"):
      _get("cps_city")(f"{key}=any")
  with pytest.raises(ConfigError, match="ratio='2': .* method='any': "):
    _get("cps_toy")("ratio=2,method=any")


@pytest.mark.parametrize("name", ["cps_city", "cps_voc"])
@pytest.mark.parametrize("method", NOT_RELEASED)
def test_published_is_refused_where_the_released_code_has_no_such_method(name, method):
  with pytest.raises(ConfigError, match=f"method=cps and method=cps_cutmix; .* no {method}"):
    _get(name)(f"method={method},published=yes")


def test_arguments_are_typed():
  declared = {"ratio": presets.Choice("1_8", presets.RATIOS), "published": False}
  assert vars(presets.arguments(None, **declared)) == {"ratio": "1_8", "published": False}
  found = presets.arguments("published=yes,ratio=1_2", **declared)
  assert (found.ratio, found.published) == ("1_2", True)
  assert presets.arguments("published=no", published=True).published is False


# lambda, crop, updates at 1/16, 1/8, 1/4, 1/2, weight decay, supervised loss
PUBLISHED = {
  "cps_voc": ((1.5, 1.0), 512, (39_680, 39_338, 39_680, 39_660), 4e-4, "ce"),
  "cps_city": ((6.0, 5.0), 800, (44_544, 44_525, 44_640, 44_640), 8e-4, "ohem"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes(name):
  weights, crop, steps, decay, supervised = PUBLISHED[name]
  get = _get(name)
  for ratio, count in zip(("1_16", "1_8", "1_4", "1_2"), steps):
    c = get(f"ratio={ratio}")
    assert (c.train.steps, c.data.labeled) == (count, f"labeled_{ratio}")
  for method, weight in zip(("cps", "cps_cutmix"), weights):
    m = get(f"method={method}").method
    assert (m.weight, m.cutmix, m.networks) == (weight, method == "cps_cutmix", 2)
    assert m.weight_ramp_steps == 0 and m.supervised_loss == supervised
  assert tuple(c.data.crop) == (crop, crop) and 1.25 not in c.data.scales
  assert (c.train.batch_labeled, c.train.batch_unlabeled) == (8, 8)
  o = c.optimizer
  assert (o.learning_rate, o.momentum, o.power, o.weight_decay) == (0.0025, 0.9, 0.9, decay)
  assert (c.method.compat, c.data.compat, c.method.cutmix_partner) == ((), (), "different_image")
  defects = get("published=yes")
  assert defects.method.compat == ("pseudo_label_padding",)
  assert defects.data.compat == ("crop_offset",)
  assert defects.method.cutmix_partner == "same_image"
  # Each GPU averaged over its own images: two of VOC, one of Cityscapes.
  assert c.method.loss_group == {"cps_voc": 0, "cps_city": 1}[name]
  assert defects.method.loss_group == {"cps_voc": 2, "cps_city": 1}[name]
  assert round(c.method.ohem_kept_fraction * 800 * 800) == 50_000
  assert get("method=supervised").method.networks == 1


def _recipe(c):
  o = c.optimizer
  rows = (c.train.batch_labeled, c.train.batch_unlabeled, *c.data.crop)
  return (c.train.steps, *rows, o.learning_rate, o.weight_decay, o.head_multiplier, o.decayed)


def test_published_recipe_of_mean_teacher():
  get = _get("mean_teacher_voc")
  for ratio, steps, ramp in (
    ("1_16", 24_800, 3720),
    ("1_8", 23_140, 3471),
    ("1_4", 29_760, 2976),
    ("1_2", 26_440, 1983),
  ):
    c = get(f"ratio={ratio}")
    assert _recipe(c) == (steps, 8, 8, 321, 321, 1e-3, 5e-4, 10, "all")
    assert (c.method.weight, c.method.weight_ramp_steps) == (1.0, ramp)
  o = c.method.mean_teacher
  assert (o.decay, o.consistency, o.on) == (0.99, "logit_mse", "unlabeled")
  assert (o.teacher_bn, o.ce_mean) == ("own_batch", "valid_pixels")
  released = get("pixels=all").method
  assert released.mean_teacher.ce_mean == "all_pixels"
  assert (c.method.compat, released.compat) == ((), contract.find("mean_teacher").COMPAT)
  of_cps = _get("cps_voc")("method=mean_teacher").method
  assert (of_cps.weight, of_cps.weight_ramp_steps, of_cps.mean_teacher.on) == (100, 0, "all")
  seg = _get("cps_voc")("method=cutmix_seg")
  m, o = seg.method, seg.method.mean_teacher
  assert (m.weight, m.cutmix, m.cutmix_boxes, tuple(m.cutmix_area)) == (1, True, 1, (0.5, 0.5))
  assert (o.consistency, o.threshold, o.teacher_bn) == ("prob_sse", 0.97, "ema_buffers")
  assert (m.cutmix_partner, m.compat, seg.eval.stack) == ("different_image", (), "teacher")


def test_published_recipe_of_gct():
  get = _get("gct_voc")
  for arg, steps, ramp, crop in (
    ("ratio=1_16", 24_800, 3720, 321),
    ("ratio=1_8", 23_140, 3471, 321),
    ("ratio=1_4", 29_760, 2976, 321),
    ("ratio=1_2", 26_440, 1983, 321),
    ("ratio=1_16,head=pspnet", 55_800, 6200, 513),
    ("ratio=1_8,head=pspnet", 52_065, 5785, 513),
    ("ratio=1_4,head=pspnet", 54_560, 4960, 513),
    ("ratio=1_2,head=pspnet", 52_880, 3305, 513),
  ):
    c = get(arg)
    assert _recipe(c) == (steps, 8, 8, crop, crop, 1e-3, 5e-4, 10, "all"), arg
    assert (c.method.weight, c.method.weight_ramp_steps) == (100, ramp), arg
  o = c.method.gct
  assert (o.weight_correction, o.weight_detector, o.threshold) == (1.0, 10.0, 0.6)
  assert (o.mu, o.nu, tuple(o.widths), o.ce_mean) == (0.5, 1, (64, 128, 256, 512), "valid_pixels")
  assert (o.learning_rate, tuple(o.betas)) == (4e-4, (0.9, 0.99))
  released = get("quirks=yes").method
  assert (c.method.networks, c.method.compat, c.method.weight_ramp) == (2, (), "")
  assert (released.compat, released.gct.ce_mean) == (contract.find("gct").COMPAT, "all_pixels")
  of_cps = _get("cps_voc")("method=cpc").method
  assert (of_cps.name, of_cps.weight, of_cps.networks, of_cps.cutmix) == ("cpc", 100, 2, False)


def test_published_recipe_of_prevmatch():
  voc, city, quirks = (_get(name) for name in ("prevmatch_voc", "prevmatch_city", "prevmatch_city"))
  c = voc("ratio=92")
  assert _recipe(c) == (104_880, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
  m, o = c.method, c.method.prevmatch
  assert (m.name, m.threshold, m.weight, m.networks) == ("prevmatch", 0.95, 1.0, 1)
  assert (o.queue, o.models, o.random_models, o.every) == (8, 3, True, 5244)
  assert (o.threshold_previous, o.weighting, o.feature_share) == (0.9, "threshold", 0.5)
  c = city("ratio=1_16")
  assert _recipe(c) == (83_520, 8, 8, 801, 801, 5e-3, 1e-4, 1, "all")
  m, o = c.method, c.method.prevmatch
  assert (m.threshold, m.supervised_loss, o.weighting, o.every) == (0, "ohem", "confidence", 4176)
  assert round(m.ohem_kept_fraction * 4 * 801 * 801) == 200_000
  m = quirks("quirks=yes").method
  assert (m.compat, m.loss_group) == (contract.find("prevmatch").COMPAT, 4)


def test_published_recipe_of_advsemiseg():
  get = _get("advsemiseg_voc")
  c, code = get(), get("published=yes")
  for one in (c, code):
    repeats = 3 if one is code else 1
    assert _recipe(one)[:5] == (20_000, 10, 10, 321, 321)
    o = one.optimizer
    np.testing.assert_allclose(o.learning_rate, repeats * 2.5e-4)
    np.testing.assert_allclose(o.learning_rate * o.head_multiplier, 2.5e-3)
    assert (o.weight_decay, o.decayed) == (5e-4, "all")
    assert one.optimizer.frozen_norms and one.model.backbone == "resnet101"
    o = one.method.advsemiseg
    assert (o.weight_labeled, o.weight_unlabeled, o.weight_semi) == (0.01, 0.001, 0.1)
    assert (o.threshold, o.semi_start, o.adversarial_start) == (0.2, 5000, 0)
    assert (o.learning_rate, tuple(o.betas), o.judge_unlabeled) == (1e-4, (0.9, 0.99), True)
  assert tuple(o.widths) == (64, 128, 256, 512)
  assert (c.model.deeplabv2.summed, code.model.deeplabv2.summed) == (0, 2)
  assert (c.data.flip, code.data.flip, tuple(code.data.scales)) == (0.5, 0.0, (1.0,))
  assert tuple(c.data.scales) == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)
  assert not c.method.compat and set(code.method.compat) == set(contract.find("advsemiseg").COMPAT)


def test_published_recipe_of_pixel_contrast():
  get = _get("pixel_contrast_city")
  c, paddle, memory = get(), get("recipe=paddle"), get("memory=yes")
  assert _recipe(c) == (40_000, 8, 8, 512, 1024, 0.01, 5e-4, 1, "all")
  assert _recipe(paddle) == (60_000, 8, 8, 512, 1024, 0.01, 2e-4, 1, "all")
  o = c.method.pixel_contrast
  assert (o.temperature, o.base_temperature, o.max_samples, o.max_views) == (0.1, 0.07, 1024, 100)
  assert (o.weight, o.warmup_steps, o.memory, c.method.loss_group) == (0.1, 5000, 0, 2)
  assert len(o.class_weights) == 19 and abs(sum(o.class_weights) - 19) < 0.1
  p = paddle.method.pixel_contrast
  assert (p.warmup_steps, p.class_weights, paddle.model.projection.width) == (0, (), 720)
  assert (c.model.projection.width, paddle.model.hrnet.align_corners) == (256, False)
  q = memory.method.pixel_contrast
  assert (q.memory, q.memory_pixels, q.max_views, q.temperature) == (5000, 10, 1, 0.07)
  assert (q.weight, q.max_samples, q.warmup_steps) == (1.0, 1024, 5000)
  assert (c.data.labeled, get("ratio=1_8").data.labeled) == ("train", "labeled_1_8")


def test_published_recipes_of_self_training():
  voc, city = _get("self_training_voc"), _get("self_training_city")
  # Batches of 16: labels alone, doubled below 200; labels with 5245 of 10,490 pictures; with all.
  for ratio, teacher, first, last in (
    ("92", 80 * 11, 80 * 661, 80 * 1316),
    ("183", 80 * 22, 80 * 656, 80 * 1301),
    ("1464", 80 * 91, 80 * 650, 80 * 1210),
  ):
    for method, before in (("st_plus_plus", (teacher, first)), ("self_training", (teacher,))):
      c = voc(f"ratio={ratio},method={method}")
      assert _recipe(c) == (last, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
      assert (tuple(c.method.self_training.steps), c.data.base_size) == (before, 400)
  c = city("ratio=1_8")
  assert _recipe(c) == (240 * 325, 8, 8, 721, 721, 4e-3, 1e-4, 10, "all")
  assert (tuple(c.method.self_training.steps), c.data.base_size) == ((240 * 23, 240 * 174), 2048)
  for get in (voc, city):
    ours, released = (get(f"published={p}").method for p in ("no", "yes"))
    o = ours.self_training
    assert (ours.networks, ours.weight, o.threshold, o.strong) == (1, 1, 0, True)
    assert (tuple(o.scales), o.flip) == ((0.5, 0.75, 1.0, 1.5, 2.0), True)
    assert (o.cutout_p, o.mixed, o.teacher_batch) == (0.5, True, 16)
    assert (o.ranked, o.checkpoints, o.reliable, o.relabel) == (True, 3, 0.5, False)
    assert (ours.compat, released.compat) == ((), contract.find("self_training").COMPAT)
    model = get("backbone=resnet50").model
    assert (model.backbone, model.output_stride) == ("resnet50", 8)
    assert model.deeplabv3plus.variant == "st"
    assert tuple(model.deeplabv3plus.aspp_rates) == (12, 24, 36)


def test_published_recipes_of_unimatch():
  voc, city = _get("unimatch_voc"), _get("unimatch_city")
  # Steps of an epoch: ceil(unlabeled / 4) // 2, over 80 and 240 epochs.
  for ratio, steps in (
    ("92", 104_880),
    ("183", 104_000),
    ("366", 102_160),
    ("732", 98_480),
    ("1464", 91_200),
    ("1_16", 99_200),
    ("1_8", 92_560),
    ("1_4", 79_360),
  ):
    c = voc(f"ratio={ratio}")
    assert _recipe(c) == (steps, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
    assert (c.data.labeled, c.method.supervised_loss) == (f"labeled_{ratio}", "ce")
  for ratio, steps in (("1_16", 83_760), ("1_8", 78_000), ("1_4", 66_960), ("1_2", 44_640)):
    assert _recipe(city(f"ratio={ratio}")) == (steps, 8, 8, 801, 801, 5e-3, 1e-4, 1, "all")
  for get, threshold in ((voc, 0.95), (city, 0.0)):
    for method in ("unimatch", "fixmatch"):
      ours, released = (get(f"method={method},published={p}").method for p in ("no", "yes"))
      for m in (ours, released):
        assert (m.name, m.networks, m.weight, m.threshold, m.box_p) == (
          method,
          1,
          1,
          threshold,
          0.5,
        )
        assert (m.weight_ramp_steps, m.joint_statistics, m.fixmatch.teacher) == (0, True, "student")
      assert (ours.box_partner, ours.loss_group) == ("different_image", 0)
      assert (released.box_partner, released.loss_group) == ("same_image", 2)
  o = city().method
  assert o.supervised_loss == "ohem" and o.ohem_threshold == 0.7
  assert round(o.ohem_kept_fraction * 2 * 801 * 801) == 200_000
  assert (o.unimatch.feature_share, o.unimatch.feature_p) == (0.5, 0.5)
  assert (tuple(city().eval.window), tuple(city().eval.stride)) == ((801, 801), (534, 534))
  model = voc("backbone=resnet50_v1s").model
  assert (model.backbone, model.deeplabv3plus.variant) == ("resnet50_v1s", "unimatch")


def test_published_recipes_of_unimatch_v2():
  get = _get("unimatch_v2_voc")
  for ratio, epoch in (("92", 655), ("183", 650), ("366", 638), ("732", 615), ("1464", 570)):
    c = get(f"ratio={ratio}")
    assert _recipe(c) == (60 * epoch, 16, 16, 518, 518, 5e-6, 0.01, 40, "all")
    assert c.optimizer.name == "adamw" and tuple(c.optimizer.betas) == (0.9, 0.999)
  for method, name in (("unimatch_v2", "unimatch_v2"), ("fixmatch_average", "fixmatch")):
    ours, released = (get(f"method={method},published={p}") for p in ("no", "yes"))
    for one in (ours, released):
      m = one.method
      assert (m.name, m.weight, m.threshold, m.box_p, m.networks) == (name, 1, 0.95, 0.5, 1)
      assert (m.box_partner, one.eval.stack, m[name].decay) == ("reversed", "teacher", 0.996)
    assert (ours.method.loss_group, released.method.loss_group) == (0, 4)
  for size, width, levels in (
    ("small", 64, (48, 96, 192, 384)),
    ("base", 128, (96, 192, 384, 768)),
    ("large", 256, (256, 512, 1024, 1024)),
  ):
    model = get(f"backbone=dinov2_{size}").model
    assert (model.dpt.width, tuple(model.dpt.level_widths)) == (width, levels)
