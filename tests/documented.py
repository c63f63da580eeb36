"""Commands as the documents have them, and the method cards as tables of Python."""

import importlib.resources
import re
import shlex

from absl import flags

from semiseg_jax import main
from semiseg_jax.config import command_line, rules

CARDS_TEXT = (importlib.resources.files("semiseg_jax.methods") / "CARDS.md").read_text("utf-8")
HEAD, _, _REST = CARDS_TEXT.partition("\n## Cards\n")
_PARTS = re.split(r"^### `(.+)`$", _REST, flags=re.MULTILINE)[1:]
CARDS = dict(zip(_PARTS[::2], _PARTS[1::2]))  # name -> its text
OPTIONS = {flag.name for flag in flags.FLAGS.get_flags_for_module(main.__name__)}  # of training


def commands(text):
  """[[word]] of the indented commands `python -m MODULE ...`, without 'python -m'.

  A line that begins with --config=FILE is what follows semiseg_jax.main.
  """
  text = re.sub(r" \\\n +", " ", text)  # a line that goes on
  lines = re.findall(r"^ {2,}(?:pip [^&\n]+&& )?python -m (.+)$", text, re.MULTILINE)
  lines += re.findall(r"^ {2,}(?=--config=\w)(.+)$", text, re.MULTILINE)
  split = [shlex.split(line, comments=True) for line in lines]
  return [["semiseg_jax.main"] * words[0].startswith("--") + words for words in split]


def config(arguments):
  """The config of a training command, which can run; own.py without a data set that is not here."""
  file, changes = "", []
  for word in arguments:
    flag, _, value = word.removeprefix("--").partition("=")
    if flag == "config":
      file = re.sub(r"\broot=[^,]+,?", "", value)
    elif flag.startswith("config."):
      changes.append(word.removeprefix("--config."))
    else:
      assert flag in OPTIONS, word
  c = command_line.load(file.rstrip(":,"), *changes)
  rules.validate(c)
  return c


def words(text):
  """The texts between single back quotes."""
  return re.findall(r"`([^`\n]+)`", text)


def rows(title):
  """name -> cells of the first table below a title of HEAD; a row is named by its first cell."""
  lines = HEAD.partition(f"\n## {title}\n")[2].splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith("|"))
  table = {}
  for line in lines[first + 2 :]:
    if not line.startswith("|"):
      break
    name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    table[name.strip("`")] = cells
  return table
