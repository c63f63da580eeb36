"""Prints every key of a config: default, possible values and the consequence of its value.

    python -m semiseg_jax.config
    python -m semiseg_jax.config --config=configs/cps_city.py:ratio=1_8 --config.train.steps=5

With a config: the values of that experiment, those that are not the default, and the keys that
nobody reads.
"""

import os
import sys
from collections.abc import Sequence

from absl import app
from ml_collections import config_flags

from semiseg_jax.config import command_line, printing, rules
from semiseg_jax.errors import ending, refuse

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment: FILE.py or FILE.py:key=value,...", lock_config=True
)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Returns the positional arguments."""
  positional = command_line.parse(argv, _CONFIG, "config")
  command_line.check_words(positional, "config")
  return positional


def main(argv: Sequence[str]) -> None:
  """Prints; ends with status 2 where the config cannot run, with the reasons."""
  del argv  # only the name of the program
  config = _CONFIG.value
  try:
    with ending("config"):
      print("\n".join(printing.all_keys() if config is None else printing.experiment(config)))
      sys.stdout.flush()
  except BrokenPipeError:  # `| head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return
  faults = [] if config is None else rules.faults(config)
  if faults:
    refuse("\nconfig: This config cannot run:\n  " + "\n  ".join(faults))


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
