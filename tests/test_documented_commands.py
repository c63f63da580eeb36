"""Commands of the README, of config files and of commands are ones that the program takes."""

import ast
import pathlib
import re
import runpy
import sys

import pytest

from configs import methods
from tests.documented import CARDS, HEAD, commands, config

REPOSITORY = pathlib.Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")
ROOMS = ("configs", "data_prep", "semiseg_jax", "semiseg_jax/benchmark")  # that hold commands
FILES = sorted(file for room in ROOMS for file in (REPOSITORY / room).glob("[a-z]*.py"))
TEXTS = {
  str(file.relative_to(REPOSITORY)): ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
  for file in FILES
} | {"README": README}
TRAINING = "semiseg_jax.main"
# A method that the reader is to write first, the rest of a command, the variable of a loop.
OPEN = ("--config.method.name=entropy", "...", "$")


def _trained(text):
  found = [rest for module, *rest in commands(text) if module == TRAINING]
  return [words for words in found if not any(mark in w for w in words for mark in OPEN)]


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if _trained(text)])
def test_what_trains_can_run(name):
  for arguments in _trained(TEXTS[name]):
    config(arguments)


def test_there_are_some():
  assert sum(bool(_trained(text)) for text in TEXTS.values()) >= 30 and len(_trained(README)) >= 8


def _others():
  """module -> names of the options that documents give it, or (module, measurement) of one."""
  given = {}
  for text in TEXTS.values():
    for module, *arguments in commands(text):
      if module != TRAINING and not module.startswith(("pytest", "tests.")):
        what = tuple(w for w in arguments if w.startswith("--what="))
        names = [re.match(r"--[a-z_]+", w)[0] for w in arguments if w.startswith("--")]
        given.setdefault((module, *what), set()).update(names)
  return given


@pytest.mark.parametrize("command, names", _others().items(), ids=map(" ".join, _others()))
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # it is run once more
def test_options_of_other_commands_are_in_their_help(command, names, capsys, monkeypatch):
  module, *what = command
  monkeypatch.setattr(sys, "argv", [module, *what, "--help"])
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
  except SystemExit as ended:
    assert not ended.code
  # Two blanks: what stands further in is an example.
  known = re.findall(r"^  (?:-\w, )?(--[a-z_]+)", capsys.readouterr().out, re.MULTILINE)
  assert names <= {*known, "--what", "--config"}


def test_the_readme_names_each_method_and_its_links_to_the_cards_end_somewhere():
  section = README.partition("\n## Methods\n")[2].partition("\n## ")[0]
  assert {*methods.METHODS, "mlmt"} <= {*re.findall(r"`(\w+)`", section)} and CARDS
  titles = re.findall(r"^#+ (.+)$", HEAD, re.MULTILINE)
  anchors = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}
  linked = re.findall(r"\(semiseg_jax/methods/CARDS\.md#([^)]+)\)", README)
  assert linked and {*linked} <= anchors
