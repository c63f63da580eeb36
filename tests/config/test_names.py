"""Unknown keys: what is near, and what there is."""

import pytest

from semiseg_jax.config import names, schema

KEYS = tuple(schema.table())


@pytest.mark.parametrize(
  "asked, meant",
  [
    ("lr", "optimizer.learning_rate"),
    ("optimizer.lr", "optimizer.learning_rate"),
    ("batch_size", "train.batch_labeled"),
    ("train.batch_size", "train.batch_labeled"),
    ("train.stepz", "train.steps"),
    ("trian.steps", "train.steps"),
    ("steps", "train.steps"),
    ("optimizer.wd", "optimizer.weight_decay"),
    ("data.crop_size", "data.crop"),
    ("method.mean_teacher.ema_decay", "method.mean_teacher.decay"),
  ],
)
def test_the_nearest_key_comes_first(asked, meant):
  assert names.nearest(asked, KEYS)[0] == meant


def test_nothing_is_near_to_nonsense():
  line = names.unknown("train.qqq", KEYS)
  assert line == (
    "train.qqq is no key. Keys of train: steps, batch_labeled, batch_unlabeled, "
    "accumulate, bn_group, frozen_statistics, log_every."
  )


def test_without_a_block_the_blocks_are_listed():
  line = names.unknown("lr", KEYS)
  assert "nearest: optimizer.learning_rate" in line
  assert "Keys of a config: " in line and "optimizer" in line.partition("Keys")[2]


def test_every_wrong_flag_is_a_line():
  argv = ["main", "--config=configs/a.py", "--config.seed=3", "-config.train.stepz", "3"]
  argv += ["--config.train.steps=abc", "--config.data.rot=x", "--config.optimizer.nesterov=maybe"]
  argv += ["--config.data.crop=(3", "--config.optimizer.betas", "0.9,0.99", "--config.name=(a"]
  lines = names.wrong_flags(argv)
  assert len(lines) == 5
  assert lines[0].startswith("--config.train.stepz is no key; nearest: train.steps")
  assert lines[1] == "--config.train.steps=abc: a whole number, 1 or more."
  assert lines[2].startswith("--config.data.rot is no key")
  assert lines[3] == "--config.optimizer.nesterov=maybe: True or False."
  assert lines[4].startswith("--config.data.crop=(3: 2 whole numbers")
  assert names.wrong_flags(argv[:3]) == []
