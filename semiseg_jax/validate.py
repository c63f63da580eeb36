"""Checks a config before anything is built: every message names the key and the mend."""

from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset


class ConfigError(ValueError):
  """A config that cannot run."""


def validate(config: ConfigDict) -> None:
  """Raises ConfigError with all that is wrong in the values themselves."""
  wrong = [text for ok, text in _rules(config) if not ok]
  if wrong:
    raise ConfigError("This config cannot run:\n  " + "\n  ".join(wrong))


def _rules(c: ConfigDict) -> list[tuple[bool, str]]:
  return [
    (bool(c.data.root), "data.root is empty: the folder that a data_prep command wrote."),
    (bool(c.data.labeled), "data.labeled is empty: the list of labeled pictures."),
    (c.method.networks > 0, f"method.networks={c.method.networks}: at least 1."),
    (c.train.steps > 0, f"train.steps={c.train.steps}: at least 1."),
    (c.train.log_every > 0, f"train.log_every={c.train.log_every}: at least 1."),
    (c.train.batch_labeled > 0, f"train.batch_labeled={c.train.batch_labeled}: at least 1."),
    (c.train.batch_unlabeled > 0, f"train.batch_unlabeled={c.train.batch_unlabeled}: at least 1."),
    (len(c.data.crop) == 2 and min(c.data.crop) > 0, f"data.crop={c.data.crop}: (height, width)."),
    (
      len(c.data.scales) > 0 and min(c.data.scales) > 0,
      f"data.scales={c.data.scales}: one or more positive factors.",
    ),
    (0 <= c.data.flip <= 1, f"data.flip={c.data.flip}: a probability."),
    (
      len(c.data.mean) == len(c.data.std) and min(c.data.std) > 0,
      f"data.mean={c.data.mean}, data.std={c.data.std}: one positive std per mean.",
    ),
    (c.eval.mode in ("slide", "whole"), f"eval.mode={c.eval.mode!r}: 'slide' or 'whole'."),
    (c.eval.batch > 0, f"eval.batch={c.eval.batch}: at least 1."),
    (c.checkpoint.keep > 0, f"checkpoint.keep={c.checkpoint.keep}: at least 1."),
    (
      c.method.pseudo_label_bn in ("train", "batch", "eval"),
      f"method.pseudo_label_bn={c.method.pseudo_label_bn!r}: 'train', 'batch' or 'eval'.",
    ),
    (
      not set(c.method.compat) - {"pseudo_label_padding"},
      f"method.compat={c.method.compat}: only 'pseudo_label_padding' is known.",
    ),
    (
      not set(c.data.compat) - {"crop_offset"},
      f"data.compat={c.data.compat}: only 'crop_offset' is known.",
    ),
  ]


def check_dataset(config: ConfigDict, dataset: Dataset) -> None:
  """Raises ConfigError where the config does not fit the data set."""
  channels = dataset.info.channels
  if len(config.data.mean) != channels:
    raise ConfigError(
      f"{dataset.info.name} has pictures of {channels} channels, data.mean and data.std have "
      f"{len(config.data.mean)}: give one number per channel, e.g. "
      f'--config.data.mean="{(0.5,) * channels}".'
    )
