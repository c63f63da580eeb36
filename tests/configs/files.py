"""The config files."""

import importlib


def of_file(name):
  """The `get_config` of a file."""
  return importlib.import_module(f"configs.{name}").get_config
