"""Unknown keys: what is near, and what there is."""

import pytest

from semiseg_jax.config import names, other_words, schema

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
    ("epochs", "train.steps"),
    ("crop_size", "data.crop"),
    ("train.lr", "optimizer.learning_rate"),
    ("eval.batch_size", "eval.batch"),
    ("model.encoder", "model.backbone"),
    ("resume", "init_from"),
  ],
)
def test_the_nearest_key_comes_first(asked, meant):
  assert names.nearest(asked, KEYS)[0] == meant


def test_nothing_is_near_to_nonsense():
  line = names.unknown("train.qqq", KEYS)
  assert line == (
    "train.qqq is no key. Keys of train: steps, batch_labeled, batch_unlabeled, "
    "accumulate, bn_group, frozen_statistics, baseline, log_every."
  )


def test_without_a_block_that_of_the_nearest_is_listed():
  line = names.unknown("lr", KEYS)
  assert "nearest: optimizer.learning_rate" in line
  assert "Keys of optimizer: name, learning_rate" in line


def test_without_anything_near_the_blocks_are_listed():
  line = names.unknown("zzz", KEYS)
  assert "nearest" not in line
  assert "Keys of a config: " in line and "optimizer" in line.partition("Keys")[2]


@pytest.mark.parametrize(
  "name, said",
  [
    ("train.steps", "--train.steps: keys of the config are written --config.train.steps=VALUE."),
    ("lr", "Did you mean --config.optimizer.learning_rate=VALUE?"),
    ("zzz", "--zzz is no option. --help lists the options"),
  ],
)
def test_a_key_without_config_before_it_is_told_so(name, said):
  assert said in names.unknown_option(name)


def test_every_word_of_others_is_meant_for_a_key_there_is():
  for words in other_words._WORDS.values():
    assert not set(words) & {key for key in KEYS if "." not in key}
  assert set(other_words._WORDS) <= set(KEYS)


@pytest.mark.parametrize("value", ["{[]: 1}", "-" * 9999 + "1", "(" * 300])
def test_a_value_that_python_gives_up_on_is_a_line(value):
  (line,) = names.wrong_flags(["main", f"--config.data.crop={value}"])
  assert line == f"--config.data.crop={value}: 2 whole numbers, each 1 or more."


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
