"""Reads the method cards: a card for each name, the tables above them, the commands in each."""

import importlib.resources
import re
import shlex

TEXT = (importlib.resources.files("semiseg_jax.methods") / "CARDS.md").read_text("utf-8")
HEAD, _, _REST = TEXT.partition("\n## Cards\n")
_PARTS = re.split(r"^### `(.+)`$", _REST, flags=re.MULTILINE)[1:]
CARDS = dict(zip(_PARTS[::2], _PARTS[1::2]))  # name -> its text


def commands(text):
  """[[word]] of the indented commands `python -m MODULE ...`, without 'python -m'."""
  text = re.sub(r" \\\n +", " ", text)  # a line that goes on
  lines = re.findall(r"^    python -m (.+)$", text, re.MULTILINE)
  return [shlex.split(line, comments=True) for line in lines]


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
      return table
    name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    table[name.strip("`")] = cells
  return table
