"""The method cards: each method has one, what they command is there, their numbers agree."""

import pathlib
import re

import pytest

from configs import methods
from semiseg_jax import evaluate
from semiseg_jax.benchmark import __main__ as benchmark
from semiseg_jax.benchmark import study
from semiseg_jax.config import command_line, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from tests.documented import CARDS, CARDS_TEXT, commands, config, rows, words
from tests.golden_files import golden_path

REPOSITORY = pathlib.Path(__file__).parents[2]
NAMES = [*methods.METHODS, *methods.COMBINED]
GATE = "mlmt"  # it segments nothing, so that METHODS has no row of it


def _kind(c):
  """What tells the rows of METHODS from each other."""
  m = c.method
  memory = m.pixel_contrast.memory > 0
  return m.name, m.cutmix, m.add, m.fixmatch.teacher, m.self_training.ranked, memory


def _expected(name):
  method, _, term = name.partition("+")
  file = "mlmt_toy.py" if name == GATE else f"cps_toy.py:method={method}"
  return _kind(command_line.load(f"configs/{file}" + f",add={term}" * bool(term)))


def test_each_method_has_a_card_and_a_row():
  assert list(CARDS) == [*NAMES, GATE]
  assert list(rows("What is known, and how")) == [*NAMES, GATE]
  assert {*rows("Measured: the toy city")} == {*NAMES, "supervised` on all 480 labels"}


@pytest.mark.parametrize("name", CARDS)
def test_its_commands_train_it(name):
  found = commands(CARDS[name])
  trained = [_kind(config(rest)) for module, *rest in found if module == "semiseg_jax.main"]
  assert trained and {*trained} == {_expected(name)}


@pytest.mark.parametrize("name", CARDS)
def test_what_it_names_is_there(name):
  """Keys, quirks, arguments of a config file, config files and tests."""
  table, quoted = schema.table(), words(CARDS[name])
  keys = [re.split(r"=", w.removeprefix("--config."))[0] for w in quoted if _is_key(w)]
  assert {*keys} <= {*table}
  for word in quoted:
    file, colon, _ = word.partition(":")
    if word.startswith("tests/"):
      assert (REPOSITORY / word).is_file(), word
    elif colon and file.endswith(".py"):
      command_line.load(f"configs/{word}")
    elif re.fullmatch(r"\w+\.py", word):
      assert (REPOSITORY / "configs" / word).is_file(), word
  assert {*re.findall(r"quirk\s+`(\w+)`", CARDS[name])} <= _quirks(name)


def _quirks(name):
  return {*getattr(contract.find(_expected(name)[0]), "COMPAT", ())}


def test_the_cards_of_a_method_name_each_of_its_quirks():
  named = {}
  for name, text in CARDS.items():
    named.setdefault(_expected(name)[0], set()).update(words(text))
  for method, quoted in named.items():
    assert {*getattr(contract.find(method), "COMPAT", ())} <= quoted, method


def _is_key(word):
  return re.match(r"(--config\.)?(data|model|method|optimizer|train|eval)\.[a-z_0-9]", word)


@pytest.mark.parametrize("name", CARDS)
def test_an_argument_that_it_names_is_one_of_its_recipes(name):
  files = [w[9:] for _, *rest in commands(CARDS[name]) for w in rest if w.startswith("--config=")]
  for argument in (w for w in words(CARDS[name]) if re.fullmatch(r"(\w+)=(\w+)", w)):
    key = argument.partition("=")[0]
    kept = [re.sub(rf"\b(root=data/mine|{key}=\w+),?", "", f).rstrip(",:") for f in files]
    assert any(_takes(f"{f}{',' if ':' in f else ':'}{argument}") for f in kept), argument


def _takes(file):
  try:
    command_line.load(file)
  except ConfigError:
    return False
  return True


def test_the_numbers_of_a_card_are_those_of_the_table():
  table = rows("Measured: the toy city")
  for name in NAMES:
    found = re.search(r"^\* Toy: ([\d.]+)(?:, ([+-][\d.]+) to supervised)?", CARDS[name], re.M)
    miou, _, difference, *_ = table[name]
    assert found.groups() == (miou, difference or None), name


def test_a_row_is_the_mean_of_its_seeds():
  table = rows("Measured: the toy city")
  for name, (miou, seeds, difference, *_) in table.items():
    mean, base = (_mean(seeds), _mean(table["supervised"][1]))
    assert abs(mean - float(miou)) <= 0.101, name  # the seeds are rounded, too
    assert not difference or abs(mean - base - float(difference)) <= 0.151, name


def _mean(seeds):
  values = [float(x) for x in seeds.split(",")]
  return sum(values) / len(values)


@pytest.mark.parametrize(
  "file", sorted({w for c in rows("What is known, and how").values() for w in words(c[0])})
)
def test_a_golden_file_that_is_named_is_there(file):
  golden_path(f"{file}.npz")


class _Parsed(BaseException):
  """A command line was read; nothing else is to happen."""


def _stop(*args, **kwargs):
  raise _Parsed(args, kwargs)


def test_the_other_commands_are_ones_that_are_taken(monkeypatch):
  monkeypatch.setattr(study, "Study", _stop)
  monkeypatch.setattr(evaluate, "evaluate", _stop)
  mains = {"semiseg_jax.benchmark": benchmark.main, "semiseg_jax.evaluate": evaluate.main}
  others = [c for c in commands(CARDS_TEXT) if c[0] != "semiseg_jax.main"]
  assert {c[0] for c in others} == {*mains}
  for module, *arguments in others:
    with pytest.raises(_Parsed) as parsed:
      mains[module](arguments)
    if module == "semiseg_jax.benchmark":
      assert {*(parsed.value.args[0][0].methods or ())} <= {*NAMES}
