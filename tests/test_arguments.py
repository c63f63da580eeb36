"""Mistakes in options are one line that names what is near, under the name that was called."""

import pytest

from semiseg_jax import __main__ as commands
from semiseg_jax import arguments


def _parser(module="semiseg_jax.predict"):
  parser = arguments.Parser(module, "python -m data_prep.folder --images DIR")
  for name in ("--workdir", "--images", "--out"):
    parser.add_argument(name, required=True)
  parser.add_argument("--split")
  return parser


@pytest.mark.parametrize(
  "given,said",
  [
    ("--workdri=x --images=a --out=b", "--workdri is no option. Did you mean --workdir?"),
    ("--workdri=x", "--workdri is no option. Did you mean --workdir?"),  # needed ones are absent
    ("--workdir=x --images=a --otu b", "--otu is no option. Did you mean --out?"),
    ("--workdir=x --input a --out b", "--input is no option. Did you mean --images?"),
    ("--workdir=x --images_folder=a", "--images_folder is no option. Did you mean --images?"),
    ("--workdir=x --images=a --out=b --config.data.split=val", "Did you mean --split?"),
    ("--workdir=x --images=a --out=b --qqq", "--qqq is no option."),
    ("--workdir=x --images=a b --out=c", "'b' belongs to no option;"),
    ("--workdir=x", "required: --images, --out."),
  ],
)
def test_a_mistake_is_one_line(capsys, given, said):
  with pytest.raises(SystemExit) as ended:
    _parser().parse_args(given.split())
  text = capsys.readouterr().err
  assert ended.value.code == 2 and said in text and text.count("\n") == 1
  assert text.startswith("python -m semiseg_jax.predict: error: ")
  assert text.endswith("`python -m semiseg_jax.predict --help` lists the options.\n")


def test_beginnings_of_options_are_taken():
  assert _parser().parse_args(["--work=x", "--im=a", "--out=b"]).workdir == "x"


def test_a_command_is_called_as_the_user_calls_it(capsys):
  names = {module: f"semiseg {name}" for name, (module, _) in commands.COMMANDS.items()}
  with arguments.called_as(names):
    text = _parser().format_help()
  assert "python -m" not in text and "\nsemiseg folder --images DIR\n" in text
  assert text.startswith("usage: semiseg predict --workdir WORKDIR --images IMAGES --out OUT [")
  assert arguments.command("semiseg_jax.predict") == "python -m semiseg_jax.predict"


def test_names_reach_the_module_that_runs(monkeypatch):
  seen = []
  monkeypatch.setattr(commands.sys, "argv", ["semiseg"])  # which main changes
  run = lambda module, **_: seen.append(arguments.command(module))
  monkeypatch.setattr(commands.runpy, "run_module", run)
  commands.main(["predict"])
  assert seen == ["semiseg predict"]
