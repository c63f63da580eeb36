"""What a config file derived from one data set is not used for another one."""

import os
from collections.abc import Sequence

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError

_LISTS = ("train", "labeled", "unlabeled", "unlabeled_root", "val")


def check(argv: Sequence[str], config: ConfigDict) -> None:
  """Says what was derived from other lists than those that are given.

  Args:
    argv: of the process.
    config: what it stands for.

  Raises:
    ConfigError: `root=` behind the colon names another data set than `--config.data.root`.
  """
  if not config.derived:
    return
  source, root = _root_of_file(argv), config.data.root
  if source and os.path.realpath(source) != os.path.realpath(root):
    raise ConfigError(
      f"--config: root={source} and --config.data.root={root} are two folders, and the recipe is "
      f"derived from the first; write root={root} and leave --config.data.root out."
    )
  given = [name for name in _LISTS if _value(argv, f"config.data.{name}") is not None]
  if given:
    keys = ", ".join(f"--config.data.{name}" for name in given)
    print(
      f"NOTE {keys} {'is' if len(given) == 1 else 'are'} given: the derived values, such as steps "
      "and batch, are those for the lists that the file names itself"
    )


def _root_of_file(argv: Sequence[str]) -> str | None:
  """What follows `root=` behind the colon of --config."""
  for item in (_value(argv, "config") or "").partition(":")[2].split(","):
    key, _, value = item.partition("=")
    if key == "root":
      return value
  return None


def _value(argv: Sequence[str], name: str) -> str | None:
  """The last value of a flag."""
  found = None
  for argument, following in zip(argv, [*argv[1:], ""]):
    flag, equals, value = argument.partition("=")
    if flag in (f"--{name}", f"-{name}"):
      found = value if equals else following
  return found
