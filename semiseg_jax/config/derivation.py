"""What a config file derives from a data set and lists, it derives from those that are given."""

import os
from collections.abc import Sequence

from ml_collections import ConfigDict

_LISTS = ("train", "labeled", "unlabeled", "unlabeled_root", "val")


def with_given_root(argv: Sequence[str]) -> list[str]:
  """Returns the arguments with the folder of `--config.data.root` also behind `root=` of --config.

  Where the two differ, this one is said to count: a file derives its recipe from `root=`.
  """
  given, file = _value(argv, "config.data.root"), _value(argv, "config") or ""
  path, colon, text = file.partition(":")
  items = [item.partition("=") for item in text.split(",")]
  named = [value for key, _, value in items if key == "root"]
  if not (given and named) or all(_is_one(value, given) for value in named):
    return list(argv)
  print(f"NOTE root={given}, as --config.data.root says, and not root={named[-1]}", flush=True)
  changed = (f"{k}{eq}{given if k == 'root' else value}" for k, eq, value in items)
  new = f"{path}{colon}{','.join(changed)}"
  return [
    new if argument == file else f"{flag}{equals}{new}" if equals and value == file else argument
    for argument in argv
    for flag, equals, value in [argument.partition("=")]
  ]


def say_other_lists(argv: Sequence[str], config: ConfigDict) -> None:
  """Says what was derived from other lists than those that are given.

  Args:
    argv: of the process.
    config: what it stands for.
  """
  given = [name for name in _LISTS if _value(argv, f"config.data.{name}") is not None]
  if config.derived and given:
    keys = ", ".join(f"--config.data.{name}" for name in given)
    print(
      f"NOTE {keys} {'is' if len(given) == 1 else 'are'} given: the derived values, such as steps "
      "and batch, are those for the lists that the file names itself"
    )


def _is_one(path: str, other: str) -> bool:
  return os.path.realpath(path) == os.path.realpath(other)


def _value(argv: Sequence[str], name: str) -> str | None:
  """The last value of a flag."""
  found = None
  for argument, following in zip(argv, [*argv[1:], ""]):
    flag, equals, value = argument.partition("=")
    if flag in (f"--{name}", f"-{name}"):
      found = value if equals else following
  return found
