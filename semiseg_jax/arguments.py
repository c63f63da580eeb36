"""Options of commands: a mistake is one line that names what is near, under the name one called."""

import argparse
import contextlib
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

_names: dict[str, str] = {}  # module -> what the user calls it, where that is another name

# What other programs call options of this one.
_WORDS = {
  "images": ("input", "inputs", "source", "img", "pictures"),
  "out": ("output", "outputs", "save", "result", "results", "dest"),
  "split": ("list", "val", "lists"),
  "workdir": ("checkpoint", "ckpt", "weights", "model", "run"),
  "data_root": ("data", "dataset", "root"),
  "labels": ("masks", "annotations", "annotation"),
  "classes": ("names", "class_names", "labelmap"),
}


@contextlib.contextmanager
def called_as(names: Mapping[str, str]) -> Iterator[None]:
  """Around a command that is called by another name than `python -m MODULE`; module -> name."""
  before = dict(_names)
  _names.update(names)
  try:
    yield
  finally:
    _names.clear()
    _names.update(before)


def command(module: str) -> str:
  """Returns what a user types to run a module: `python -m MODULE`, or `semiseg NAME`."""
  return _names.get(module, f"python -m {module}")


def worded(text: str) -> str:
  """Returns a text with its `python -m MODULE` as the user calls these."""
  return re.sub(r"python -m ([\w.]*\w)", lambda found: command(found[1]), text)


class Parser(argparse.ArgumentParser):
  """An ArgumentParser whose errors are a line without the usage, and name the nearest option."""

  def __init__(self, module: str, description: str | None = None, **options: Any):
    """Args: module of the command; the rest as for ArgumentParser."""
    text = description and worded(description)
    super().__init__(prog=command(module), description=text, **options)
    self._given: list[str] = []

  def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
    """Parses, and keeps what was given for messages."""
    self._given = list(sys.argv[1:] if args is None else args)
    return super().parse_known_args(self._given, namespace)

  def error(self, message: str) -> NoReturn:
    """Ends with status 2 and the message, or what is known of options that do not exist."""
    said = [self._unknown(text) for text in self._given if self._is_unknown(text)]
    words = message.removeprefix("unrecognized arguments: ")
    if not said and words != message:
      said = [f"{words!r} belongs to no option; options are written --NAME VALUE."]
    text = " ".join(said) or message
    end = "" if text.endswith(("?", ".")) else "."
    self.exit(2, f"{self.prog}: error: {text}{end} `{self.prog} --help` lists the options.\n")

  def format_help(self) -> str:
    """The help, whose usage has the options that must be given."""
    if self.usage is None:
      self.usage = f"{self.prog} {' '.join((*self._needed(), '[options]'))}"
    return super().format_help()

  def _needed(self) -> list[str]:
    one_of = [group for group in self._mutually_exclusive_groups if group.required]
    parts = [
      f"({' | '.join(f'{a.option_strings[0]} ...' for a in group._group_actions)})"
      for group in one_of
    ]
    for action in self._actions:
      name = action.metavar or action.dest.upper()
      if action.option_strings and action.required:
        parts.insert(len(parts) - len(one_of), f"{action.option_strings[0]} {name}")
      elif not action.option_strings:
        parts.append(action.metavar or action.dest)
    return parts

  def _is_unknown(self, text: str) -> bool:
    name = text.partition("=")[0]
    known = self._option_string_actions
    return name.startswith("--") and name != "--" and not any(k.startswith(name) for k in known)

  def _unknown(self, text: str) -> str:
    asked = text.partition("=")[0].removeprefix("--")
    near = nearest(asked, [k.removeprefix("--") for k in self._option_string_actions])
    config = (
      " (keys of a config are for training)" if asked.startswith("config.") and not near else ""
    )
    return f"--{asked} is no option{config}." + (f" Did you mean --{near}?" if near else "")


def nearest(asked: str, known: Sequence[str]) -> str | None:
  """Returns the known option that a misspelled, longer or foreign name may mean."""
  asked = asked.rpartition(".")[2].replace("-", "_").lower()
  meant = [option for option, words in _WORDS.items() if asked in words and option in known]
  near = difflib.get_close_matches(asked, known, 1, 0.6)
  parts = [name for name in known if len(name) > 2 and asked.startswith(name)]
  return next(iter([*meant, *near, *sorted(parts, key=len, reverse=True)]), None)
