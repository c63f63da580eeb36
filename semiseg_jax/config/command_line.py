"""Reads `--config=FILE.py:argument=value --config.block.key=value`; a mistake is one line."""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from semiseg_jax.errors import UserError


def parse(
  argv: Sequence[str], config: Any, command: str, values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Returns the positional arguments; wrong values end with one line on stderr and code 1.

  Args:
    argv: of the process.
    config: the holder of the flag `--config`.
    command: what begins the line.
    values: the flags of the command.
  """
  try:
    positional = values(argv)
    if config.value is not None:
      config.value.name  # noqa: B018  (a missing file is noticed at its first use only)
    return positional
  except UserError as error:  # what a config says of its arguments
    raise SystemExit(f"{command}: --config: {error}") from error
  except (AttributeError, KeyError, OSError) as error:  # an unknown key, no such file
    reason = _absent_file(argv) or _unknown_key(argv) or _one_line(error)
    raise SystemExit(f"{command}: {reason}") from error
  except flags.Error as error:
    lines = str(error).strip().splitlines() or [""]
    if len(lines) > 1:  # the traceback of a bug in a config file
      raise
    raise SystemExit(f"{command}: {lines[0]}") from error


def read(arguments: Sequence[str], command: str) -> ConfigDict:
  """Returns the config of `--config=FILE.py:...` and `--config.KEY=VALUE` alone.

  Wrong values end as in `parse`.

  Args:
    arguments: these flags.
    command: what begins the line of an error.
  """
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", None, "FILE.py or FILE.py:key=value,...", flag_values=values, sys_argv=list(arguments)
  )
  parse([command, *arguments], holder, command, values)
  if values.config is None:
    raise SystemExit(f"{command}: --config=FILE.py is missing.")
  return values.config


def _absent_file(argv: Sequence[str]) -> str:
  for argument, following in zip(argv, [*argv[1:], ""]):
    name, equals, value = argument.lstrip("-").partition("=")
    if name == "config" and argument.startswith("-"):
      file = (value if equals else following).partition(":")[0]
      if not pathlib.Path(file).is_file():
        return f"--config={file}: there is no such file; those of this program lie in configs/."
  return ""


def _unknown_key(argv: Sequence[str]) -> str:
  from semiseg_jax.config import names  # takes jax along, which a right command line waits for

  line = names.unknown_flags(argv)
  return line and f"--config.{line}"


def _one_line(error: Exception) -> str:
  while error.args and isinstance(error.args[0], Exception):  # one is packed into another
    error = error.args[0]
  return " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
