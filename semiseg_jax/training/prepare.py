"""Makes the embedded data set when a config asks for it and it is missing."""

import pathlib

from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError, DataError


def prepare(config: ConfigDict) -> None:
  """Makes `config.data.root` as `config.data.prepare` says; an existing folder is left alone.

  Of several processes the first one makes it; the others wait, and make it only where they do not
  see that folder (hosts without a shared disk).

  Raises:
    ConfigError: `prepare` is neither '' nor 'toy_city'.
  """
  if config.data.prepare not in ("", "toy_city"):
    raise ConfigError(f"data.prepare={config.data.prepare!r}: 'toy_city', or '' for your own data.")
  if not config.data.prepare:
    return
  import jax

  if jax.process_index() == 0:
    _make_toy_city(config.data.root)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("toy city made")
    _make_toy_city(config.data.root)


def _make_toy_city(root: str) -> None:
  if pathlib.Path(root).exists():
    return
  from data_prep.toy_city import city

  print(f"Making the toy city at {root}.", flush=True)
  try:
    city.prepare(root)
  except DataError as lost:
    try:
      Dataset.open(root)
    except DataError:
      raise lost from None
    print(f"Another process made {root} meanwhile: that one is used.")
