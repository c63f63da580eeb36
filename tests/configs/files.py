"""The config files, and what of one is its recipe."""

import importlib


def of_file(name):
  """The `get_config` of a file."""
  return importlib.import_module(f"configs.{name}").get_config


def numbers_of(c):
  """Steps, pictures of each kind in a batch, crop, rate, decay and where they act."""
  o = c.optimizer
  rows = (c.train.batch_labeled, c.train.batch_unlabeled, *c.data.crop)
  return (c.train.steps, *rows, o.learning_rate, o.weight_decay, o.head_multiplier, o.decayed)
