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


def test_the_first_unknown_flag():
  argv = ["main", "--config=configs/a.py", "--config.seed=3", "-config.train.stepz", "3"]
  assert names.unknown_flags(argv).startswith("train.stepz is no key; nearest: train.steps")
  assert names.unknown_flags(argv[:3]) == ""
