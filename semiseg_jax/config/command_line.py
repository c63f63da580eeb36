"""Reads `--config=FILE.py:argument=value --config.block.key=value`; a mistake is one line."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from semiseg_jax.config import config_files, derivation, help_text
from semiseg_jax.errors import ConfigError, UserError, ending, refuse

_HELP = {"--help", "-help", "-h", "--helpshort"}
_NO_CONFIG = (
  "get_config of this file returns no config of this program; it starts from "
  "semiseg_jax.config.schema.default()."
)


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
  if _HELP & set(argv[1:]):
    help_text.show(values)
    raise SystemExit(0)
  with ending(command):
    positional = _parsed(argv, config, values)
    if config.value is not None:
      derivation.say_other_lists(argv, config.value)
    return positional


def _parsed(argv: Sequence[str], config: Any, values: flags.FlagValues) -> list[str]:
  """The same, but the user's mistakes are a ConfigError."""
  argv = derivation.with_given_root(config_files.located(argv))
  try:
    with _naming_the_flag():
      positional = values(argv)
      if config.value is not None:
        _check(config.value)
      return positional
  except (AttributeError, KeyError, flags.Error, RecursionError, MemoryError) as error:
    reason = _reason(argv, error, values)
    if getattr(error, "name", "") == "get_config":
      reason = "--config: the file has no function get_config(arg) that returns a config."
    if "does not support indexing" in str(error):  # a key of what is no config
      raise ConfigError(_NO_CONFIG) from error
    if not reason:  # a bug in a config file
      raise
    raise ConfigError(reason) from error


def check_words(positional: Sequence[str], command: str) -> None:
  """Ends a command that takes options only, where there is a word beside its name."""
  if positional[1:]:
    refuse(
      f"{command}: {' '.join(map(repr, positional[1:]))} belongs to no option; options are written "
      "--NAME=VALUE, a value with blanks in quotes."
    )


@contextlib.contextmanager
def _naming_the_flag() -> Iterator[None]:
  try:
    yield
  except UserError as error:  # what a config says of its arguments
    raise ConfigError(f"--config: {error}") from error
  except SyntaxError as error:
    place = f"{error.filename}, line {error.lineno}: " if error.lineno else ""
    raise ConfigError(f"--config: the file is no Python: {place}{error.msg}.") from error


def _check(config: Any) -> None:
  """What the system said of a file is told at the first use of the value."""
  with contextlib.suppress(AttributeError):
    try:
      config.name  # noqa: B018
    except OSError as error:
      raise error.__cause__ or error from None
  if not (isinstance(config, ConfigDict) and {"name", "runtime"} <= set(config)):
    raise ConfigError(_NO_CONFIG)


def load(file: str, *changes: str) -> ConfigDict:
  """Returns the config of a file, as `--config` and `--config.KEY=VALUE` give it.

  Args:
    file: 'FILE.py' or 'FILE.py:key=value,...'; configs/NAME.py is that of this program where there
      is no such file here.
    changes: 'block.key=value' each.

  Raises:
    ConfigError: no such file, key or value; what is near is named.
  """
  return _loaded([f"--config={file}", *(f"--config.{change}" for change in changes)])


def read(arguments: Sequence[str], command: str) -> ConfigDict:
  """Returns the config of `--config=FILE.py:...` and `--config.KEY=VALUE` alone.

  Wrong values end as in `parse`.

  Args:
    arguments: these flags.
    command: what begins the line of an error.
  """
  with ending(command):
    return _loaded(arguments)


def _loaded(arguments: Sequence[str]) -> ConfigDict:
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", None, "FILE.py or FILE.py:key=value,...", flag_values=values, sys_argv=list(arguments)
  )
  _parsed(["config", *arguments], holder, values)
  if values.config is None:
    raise ConfigError("--config=FILE.py is missing.")
  return values.config


def _reason(argv: Sequence[str], error: Exception, options: Iterable[str] = ()) -> str:
  """What a user did wrong; nothing where it is a bug of a config file."""
  from semiseg_jax.config import names  # takes jax along, which a right command line waits for

  wrong = names.wrong_flags(argv)
  if wrong or not isinstance(error, flags.Error):
    return "\n".join(wrong)
  if isinstance(error, flags.UnrecognizedFlagError):
    return names.unknown_option(error.flagname, options)
  said = str(error).strip().splitlines() or [""]
  return said[0] if len(said) == 1 else ""  # more: the traceback of a bug
