"""Makes the embedded data set when a config asks for it and it is missing."""

import pathlib

from absl import logging
from ml_collections import ConfigDict


def prepare(config: ConfigDict) -> None:
  """Makes `config.data.root` as `config.data.prepare` says; an existing folder is left alone.

  Raises:
    ValueError: `prepare` is neither '' nor 'toy_city'.
  """
  if config.data.prepare not in ("", "toy_city"):
    raise ValueError(f"data.prepare={config.data.prepare!r}: 'toy_city', or '' for your own data.")
  if config.data.prepare and not pathlib.Path(config.data.root).exists():
    from data_prep import toy_city

    logging.info("Making the toy city at %s.", config.data.root)
    toy_city.prepare(config.data.root)
