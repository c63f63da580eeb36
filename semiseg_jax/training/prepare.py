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
    ConfigError: `prepare` is none of '', 'toy_city' and 'toy_town'.
  """
  kind, known = config.data.prepare, ("toy_city", "toy_town")
  if kind not in ("", *known):
    raise ConfigError(f"data.prepare={kind!r}: {' or '.join(known)}, or '' for your own data.")
  if not kind:
    return
  import jax

  if jax.process_index() == 0:
    _make(kind, config.data.root)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("toy city made")
    _make(kind, config.data.root)


def _make(kind: str, root: str) -> None:
  if pathlib.Path(root).exists():
    return
  from data_prep.toy_city import city

  print(f"Making the {kind.replace('_', ' ')} at {root}.", flush=True)
  try:
    city.prepare(root, **({"large": True} if kind == "toy_town" else {}))
  except DataError as lost:
    try:
      Dataset.open(root)
    except DataError:
      raise lost from None
    print(f"Another process made {root} meanwhile: that one is used.")
