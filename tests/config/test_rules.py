"""Every rule of the config check names its key; all that is wrong is said at once."""

import dataclasses

import pytest

from configs import cps_toy
from semiseg_jax.config import schema
from semiseg_jax.config.rules import check_dataset, faults, validate
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from tests import small_city

WRONG = {
  "data.root": "",
  "data.labeled": "",
  "data.crop": (0, 32),
  "data.scales": (),
  "data.flip": 1.5,
  "data.std": (0.2, 0.0, 0.2),
  "data.compat": ("pseudo_label_padding",),
  "train.steps": 0,
  "train.log_every": 0,
  "train.batch_labeled": 0,
  "train.batch_unlabeled": -1,
  "eval.mode": "halves",
  "eval.batch": 0,
  "checkpoint.keep": 0,
  "method.pseudo_label_bn": "running",
  "method.compat": ("crop_offset",),
  "seed": -1,
  "data.workers": -1,
  "method.weight": -1.0,
  "method.weight_ramp_steps": -1,
  "method.cutmix_partner": "same",
  "method.cutmix_boxes": 0,
  "method.cutmix_area": (0.0, 0.5),
  "method.supervised_loss": "hinge",
  "method.loss_group": -2,
  "method.ohem_threshold": 0.0,
  "method.ohem_kept_fraction": 1.5,
  "eval.every": -1,
  "eval.pictures": -1,
  "eval.network": "2",
  "eval.window": (0, 64),
  "checkpoint.every": -1,
  "optimizer.learning_rate": -0.1,
  "optimizer.power": -0.9,
  "optimizer.momentum": 1.5,
  "optimizer.weight_decay": -3e-3,
}
OTHERS = {
  "data.root": "gs://bucket/city",
  "data.unlabeled_root": "gs://bucket/extra",
  "data.mean": (),
  "method.cutmix_area": (0.5, 0.25),
  "method.loss_group": 3,
  "eval.network": "all",
  "eval.stride": (512, 513),
  "data.crop": (32,),
  "data.scales": (1.0, 0.0),
  "data.flip": -0.1,
  "train.steps": -1,
  "profile_steps": (1499, 1500),
  "optimizer.momentum": 1.0,
  "seed": 2**32,  # jax would take it for 0
}


MORE = {
  "profile_steps": (3, 2),
  "data.mean": (0.5,),
  "method.cutmix_area": (0.5,),
  "eval.stride": (-1, 0),
}
# What is changed -> the choice that does not read it.
UNREAD = [
  ("method=cps", {"method.pseudo_label_bn": "eval"}, "method.cutmix=False"),
  ("method=cps", {"method.cutmix_boxes": 5}, "method.cutmix=False"),
  ("method=cps", {"method.cutmix_area": (0.1, 0.2)}, "method.cutmix=False"),
  ("method=cps", {"method.cutmix_partner": "same_image"}, "method.cutmix=False"),
  ("method=cps_cutmix", {"method.ohem_threshold": 0.5}, "supervised_loss='ce'"),
  ("method=cps_cutmix", {"method.ohem_kept_fraction": 0.5}, "supervised_loss='ce'"),
  ("method=supervised", {"method.weight": 2.0}, "supervised"),
  ("method=supervised", {"method.weight_ramp_steps": 9}, "supervised"),
  ("method=supervised", {"method.cutmix": True}, "supervised"),
  ("method=supervised", {"method.cutmix_boxes": 5}, "supervised"),
  ("method=supervised", {"method.pseudo_label_bn": "batch"}, "supervised"),
  ("method=cutmix_seg", {"method.pseudo_label_bn": "batch"}, "mean_teacher"),
  ("method=advsemiseg", {"method.weight": 2.0}, "advsemiseg"),
  ("method=pixel_contrast", {"data.unlabeled": "all"}, "pixel_contrast"),
  ("method=pixel_contrast", {"method.mean_teacher.decay": 0.9}, "pixel_contrast"),
  ("method=supervised", {"method.compat": ("pseudo_label_padding",)}, "supervised"),
  ("method=supervised", {"data.unlabeled": "all"}, "supervised"),
  ("method=supervised", {"data.unlabeled_root": "data/extra"}, "supervised"),
  ("method=cps", {"data.sources": ("more=train",)}, "method.name='cps'"),
  ("method=mean_teacher", {"data.targets": "runs/a/targets"}, "mean_teacher"),
  ("method=u2pl", {"method.u2pl.weight_auxiliary": 1.0}, "deeplabv3plus.auxiliary=False"),
  ("method=cps", {"data.tfds_image": "image_left"}, "tfds"),
  ("method=cps", {"data.tfds_ignored": (0,)}, "tfds"),
]


def _config(changes, arg=None):
  c = cps_toy.get_config(arg)
  with c.ignore_type():
    c.update_from_flattened_dict(changes)
  return c


def test_the_toy_config_is_right():
  validate(cps_toy.get_config())


@pytest.mark.parametrize("key, value", [*WRONG.items(), *OTHERS.items(), *MORE.items()])
def test_one_wrong_value_is_one_line_with_its_key(key, value):
  with pytest.raises(ConfigError) as error:
    validate(_config({"method.supervised_loss": "ohem", key: value}))
  first, *lines = str(error.value).splitlines()
  assert first == "This config cannot run:" and len(lines) == 1
  assert key in lines[0] and (value in ("", ()) or str(value) in lines[0])


def test_frozen_statistics_are_those_of_somebody():
  frozen = {"train.frozen_statistics": True}
  with pytest.raises(ConfigError, match="of a fresh network are 0 and 1; set model.pretrained"):
    validate(_config(frozen))
  validate(_config(frozen | {"model.pretrained": "data/weights/tiny"}))
  validate(_config(frozen | {"init_from": "runs/other"}))
  with pytest.raises(ConfigError, match="train.bn_group=2: train.frozen_statistics=True"):
    validate(_config(frozen | {"init_from": "runs/other", "train.bn_group": 2}))


def test_everything_wrong_is_said_at_once():
  lines = faults(_config(WRONG | {"method.nothing": 1, "eval.stride": (70, 0)}))
  assert sorted(line.split("=")[0].split(" ")[0] for line in lines) == sorted(
    # The stride is compared with no window that is itself at fault.
    [*WRONG, "method.nothing"]
  )


def test_single_values_and_rules_that_span_keys_are_said_at_once():
  wrong = {"train.log_every": 0, "eval.stride": (999, 0), "method.networks": 1, "train.bn_group": 3}
  lines = faults(_config(wrong | {"method.ohem_threshold": 0.5, "eval.network": "1"}))
  assert [line.split("=")[0] for line in lines] == [
    *("train.log_every", "train.bn_group", "eval.stride", "eval.network", "method.networks"),
    "method.ohem_threshold",
  ]


def test_unknown_and_absent_keys_are_named():
  config = _config({})
  config.method.weigth = 2.0
  del config.method["weight"]
  line, absent = faults(config)
  assert line.startswith("method.weigth is no key; nearest: method.weight")
  assert absent == "method.weight is missing."


@pytest.mark.parametrize(
  "arg, changes, said",
  [
    ("method=cps", {"method.networks": 1}, "method.networks=1: CPS needs at least 2 networks."),
    (
      "method=cps",
      {"method.loss_group": 1, "train.batch_unlabeled": 6},
      "6 unlabeled pictures of a batch fall into as many groups as the 4 labeled ones",
    ),
    (
      "method=mean_teacher",
      {"method.cutmix": True},
      "method.mean_teacher.on='all': method.cutmix=True does not read it",
    ),
    (
      "method=mean_teacher",
      {"method.mean_teacher.ce_mean": "all_pixels", "method.supervised_loss": "ohem"},
      "ce_mean='all_pixels': method.supervised_loss='ohem' does not read it",
    ),
    (
      "method=pixel_contrast",
      {"model.projection.kind": "none", "model.projection.width": 256},
      "model.projection.kind='none': pixel_contrast needs embeddings",
    ),
    (
      "method=pixel_contrast_memory",
      {"method.pixel_contrast.memory": 5},
      "method.pixel_contrast.memory_pixels=10: 1 to memory=5",
    ),
    (
      "method=u2pl",
      {"method.u2pl.supervised_steps": 1500},
      "supervised_steps=1500: below train.steps=1500, or no step sees unlabeled pictures",
    ),
    (
      "method=cps",
      {"model.family": ("deeplabv3plus.auxiliary=True", "output_stride=16")},
      "'deeplabv3plus.auxiliary=True': method.name='cps' does not read deeplabv3plus.auxiliary",
    ),
    (
      "method=pixel_contrast",
      {"method.compat": ("reference_memory",)},
      "method.compat=('reference_memory',) needs method.pixel_contrast.memory",
    ),
  ],
)
def test_what_only_the_method_knows(arg, changes, said):
  validate(_config({}, arg))
  (line,) = faults(_config(changes, arg))
  assert said in line


@pytest.mark.parametrize(
  "key, value", [("data.flip", 0.0), ("data.flip", 1.0), ("method.pseudo_label_bn", "batch")]
)
def test_limits_are_right(key, value):
  validate(_config({key: value}))


@pytest.mark.parametrize("arg, changes, choice", UNREAD)
def test_a_changed_key_that_nobody_reads_is_refused(arg, changes, choice):
  validate(_config({}, arg))
  with pytest.raises(ConfigError) as error:
    validate(_config(changes, arg))
  _, line = str(error.value).splitlines()
  (key,) = changes
  assert key in line and choice in line and "does not read" in line


def test_keys_that_are_read_may_change():
  cutmix = {
    "method.cutmix_boxes": 5,
    "method.pseudo_label_bn": "eval",
    "method.cutmix_area": [0.1, 1],
  }
  validate(_config(cutmix))
  validate(_config({"method.supervised_loss": "ohem", "method.ohem_threshold": 0.5}))


def test_a_transformer_takes_multiples_of_its_patch():
  config = schema.default()
  config.data.root, config.data.labeled, config.train.steps = "data", "labeled", 1
  config.model.backbone, config.model.head = "dinov2_small", "dpt"
  config.data.crop, config.eval.window = (518, 512), (520, 518)
  with pytest.raises(ConfigError) as error:
    validate(config)
  for line in (
    r"data.crop=(518, 512): model.backbone='dinov2_small' takes sides",
    "eval.window=(520",
  ):
    assert line in str(error.value)
  config.eval.mode, config.data.crop = "whole", (518, 798)
  validate(config)


def test_another_name_on_a_cps_config_is_no_baseline():
  with pytest.raises(ConfigError, match=r"method\.cutmix=True: method.name='supervised' does not"):
    validate(_config({"method.name": "supervised"}))


def test_embeddings_and_auxiliary_logits_may_change_where_they_are_read():
  added = {"method.add": ("pixel_contrast",), "model.projection.kind": "convmlp"}
  validate(_config(added, "method=cps"))
  weight = {"method.u2pl.weight_auxiliary": 1.0}
  validate(_config(weight | {"model.deeplabv3plus.auxiliary": True}, "method=u2pl"))
  ocr = {"model.backbone": "hrnet18", "model.head": "ocr", "model.output_stride": 0}
  assert not any(
    "weight_auxiliary" in line for line in faults(_config(weight | ocr, "method=u2pl"))
  )


def test_classes_that_are_not_there(tmp_path):
  small_city.write(tmp_path / "data", pictures=4, val=1)
  dataset = Dataset.open(tmp_path / "data")
  config = _config({}, "method=cct")
  config.method.cct.background = (0, 2)
  check_dataset(config, dataset)
  config.method.cct.background = (0, len(dataset.info.classes))
  with pytest.raises(ConfigError, match=r"small_city: method.cct.background=\(0, \d+\): classes"):
    check_dataset(config, dataset)


def test_channels(tmp_path):
  small_city.write(tmp_path / "data", pictures=4, val=1)
  dataset = Dataset.open(tmp_path / "data")
  config = small_city.config(tmp_path / "data")
  check_dataset(config, dataset)

  class Infrared:
    info = dataclasses.replace(dataset.info, channels=4)

  with pytest.raises(ConfigError, match=r"small_city has pictures of 4 channels(.|\n)*have 3"):
    check_dataset(config, Infrared())
  with pytest.raises(ConfigError, match=r"--config\.data\.mean=\S.* --config\.data\.std="):
    check_dataset(config, Infrared())
