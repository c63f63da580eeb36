"""Reads `--config=FILE.py:argument=value --config.block.key=value`; a mistake is one line."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from semiseg_jax.errors import ConfigError, UserError, ending


def parse(
  argv: Sequence[str], config: Any, command: str, values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Returns the positional arguments; wrong ones end with a line each on stderr and code 1.

  A bug in a config file keeps its traceback.

  Args:
    argv: of the process.
    config: the holder of the flag `--config`.
    command: what begins the line.
    values: the flags of the command.
  """
  absent = _absent_file(argv)
  if absent:
    raise SystemExit(f"{command}: {absent}")
  try:
    with ending(command), _naming_the_flag():
      positional = values(argv)
      if config.value is not None:
        _check(config.value)
      return positional
  except (AttributeError, KeyError, flags.Error) as error:
    said = str(error).strip().splitlines() or [""]
    of_absl = isinstance(error, flags.Error) and len(said) == 1  # more: the traceback of a bug
    reason = _wrong_flags(argv) or (said[0] if of_absl else "")
    if getattr(error, "name", "") == "get_config":
      reason = "--config: the file has no function get_config(arg) that returns a config."
    if not reason:  # a bug in a config file
      raise
    raise SystemExit(f"{command}: {reason}") from error


@contextlib.contextmanager
def _naming_the_flag() -> Iterator[None]:
  try:
    yield
  except UserError as error:  # what a config says of its arguments
    raise ConfigError(f"--config: {error}") from error


def _check(config: Any) -> None:
  """What the system said of a file is told at the first use of the value."""
  with contextlib.suppress(AttributeError):
    try:
      config.name  # noqa: B018
    except OSError as error:
      raise error.__cause__ or error from None
  if not (isinstance(config, ConfigDict) and {"name", "runtime"} <= set(config)):
    raise ConfigError(
      "get_config of this file returns no config of this program; it starts from "
      "semiseg_jax.config.schema.default()."
    )


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


def _wrong_flags(argv: Sequence[str]) -> str:
  from semiseg_jax.config import names  # takes jax along, which a right command line waits for

  return "\n".join(names.wrong_flags(argv))
