"""`semiseg NAME` and the config files of an installed program."""

import importlib.util
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from semiseg_jax import __main__ as commands
from semiseg_jax.config import command_line, config_files
from semiseg_jax.errors import ConfigError


def test_every_command_has_a_module():
  for module, _ in commands.COMMANDS.values():
    assert importlib.util.find_spec(module), module


def test_arguments_reach_the_module_that_the_name_stands_for(monkeypatch):
  seen = []
  monkeypatch.setattr(sys, "argv", ["semiseg", "predict", "--workdir=w", "--out=o"])
  run = lambda module, **how: seen.append((module, how["run_name"], list(sys.argv)))
  monkeypatch.setattr(commands.runpy, "run_module", run)
  commands.main()
  argv = ["semiseg predict", "--workdir=w", "--out=o"]
  assert seen == [("semiseg_jax.predict", "__main__", argv)]


def test_help_lists_the_commands_and_an_unknown_one_is_told(capsys):
  commands.main([])
  out = capsys.readouterr().out
  assert all(f"\n  {name} " in out for name in commands.COMMANDS)
  with pytest.raises(SystemExit, match="'fly' is no command(.|\n)*  evaluate "):
    commands.main(["fly"])
  with pytest.raises(SystemExit, match="^semiseg: 'trian' is no command. Did you mean 'train'?.*$"):
    commands.main(["trian"])


def test_config_files_of_the_program_are_there_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = command_line.load("configs/cps_toy.py:method=supervised", "train.steps=7")
  assert config.train.steps == 7 and config.method.name == "supervised"


def test_a_file_of_ones_own_goes_before_that_of_the_program(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "cps_toy.py").write_text("")
  assert config_files.locate("configs/cps_toy.py:a=b") == "configs/cps_toy.py:a=b"
  given = ["main", "--config", "configs/own.py", "--config.seed=1", "--workdir=configs/own.py"]
  main, flag, found, *rest = config_files.located(given)
  assert found == str(config_files.own_folder() / "own.py") and rest == given[3:]


@pytest.mark.parametrize(
  "file, said",
  [
    ("configs/cps_toi.py", "no such file; nearest: configs/cps_toy.py"),
    ("cps_toy", "no such file; nearest: configs/cps_toy.py"),
    ("configs", "those of this program lie in configs/"),
    (__file__.replace("test_commands.py", "old_runs/README.txt"), "README.txt: this is no FILE.py"),
    ("own.py", "no such file; nearest: configs/own.py"),
    ("configs/own.py:root", "Write root=VALUE."),
    ("configs/cps_toy.py:lr=3", "write key=value with ratio, method, add"),
  ],
)
def test_a_wrong_file_is_an_error_with_what_is_near(file, said):
  with pytest.raises(ConfigError, match=said):
    command_line.load(file)


def test_a_wrong_change_is_an_error():
  with pytest.raises(ConfigError, match="--config.train.stepz is no key; nearest: train.steps"):
    command_line.load("configs/cps_toy.py", "train.stepz=3")


def test_a_word_too_many_is_one_line_and_help_has_only_what_the_command_takes(capsys):
  values = flags.FlagValues()
  config = config_flags.DEFINE_config_file("config", None, flag_values=values)
  flags.DEFINE_string("folder", None, "where", flag_values=values)
  with pytest.raises(SystemExit, match="^main: 'extra' belongs to no option;[^\n]*$"):
    command_line.check_words(command_line.parse(["main", "extra"], config, "main", values), "main")
  with pytest.raises(SystemExit) as ended:
    command_line.parse(["main", "--help"], config, "main", values)
  out = capsys.readouterr().out
  assert ended.value.code == 0 and "  --folder=VALUE          where" in out
  assert "helpfull" not in out and "default: 'None'" not in out
