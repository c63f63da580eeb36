"""The status of every command: 2 where options or a config cannot be used, 1 for all else."""

import importlib

import pytest
from absl import flags

from semiseg_jax import errors
from semiseg_jax.__main__ import COMMANDS
from semiseg_jax.__main__ import main as semiseg
from semiseg_jax.config import command_line
from semiseg_jax.errors import CheckpointError, ConfigError, DataError, OptionError, WeightsError

_TOY = "--config=configs/cps_toy.py"
_ABSL, _CONFIG = (
  "semiseg_jax.main",
  "semiseg_jax.config",
)
# Those whose first argument is their name.
_NAMED = ("semiseg_jax.sweep", "semiseg_jax.benchmark.summary")
_W, _GONE = "--workdir=gone", "gone"


def status(module, argv, capsys):
  """Returns what a shell would see, and the line on stderr."""
  if module == _CONFIG:  # its flags and those of main are not for one process
    run = lambda argv: command_line.read(argv, "config")
  else:
    found = importlib.import_module(_MAINS.get(module, module))
    run = found.parse_flags if module == _ABSL else found.main
  with pytest.raises(SystemExit) as ended:
    run([module, *argv] if module in (_ABSL, *_NAMED) else argv)
  flags.FLAGS.unparse_flags()
  code = ended.value.code
  return (code, capsys.readouterr().err) if isinstance(code, int) else (1, f"{code}\n")


_MAINS = {"semiseg_jax.benchmark": "semiseg_jax.benchmark.__main__"}
_MODULES = sorted({module for module, _ in COMMANDS.values()})


@pytest.mark.parametrize("module", _MODULES)
def test_an_option_that_no_command_has_is_2(module, capsys):
  more = ["--what=summary"] if module == "semiseg_jax.benchmark" else []
  code, said = status(module, [*more, "--nonsense=1"], capsys)
  assert code == 2 and "nonsense" in said, said


@pytest.mark.parametrize(
  "module, argv",
  [
    ("semiseg_jax.evaluate", [_W, "--images=i"]),
    ("semiseg_jax.evaluate", [_W, "--gate_rule=softmax_zero"]),
    ("semiseg_jax.evaluate", [_W, "--window=x"]),
    ("semiseg_jax.predict", [_W, "--images=i", "--out=o", "--write=nothing"]),
    ("semiseg_jax.predict", [_W, "--images=gs://b/i", "--out=o", "--topk=2"]),
    ("semiseg_jax.predict", [_W, "--images=i"]),
    ("semiseg_jax.label", [_W, "--out=o", "--form=dataset"]),
    ("semiseg_jax.label", [_W, "--out=gs://b/o"]),
    ("semiseg_jax.suggest", [_W, "--out=o", "--number=0"]),
    ("semiseg_jax.suggest", [_W, "--out=o", "--by=luck"]),
    ("semiseg_jax.report", []),
    ("semiseg_jax.report", ["--workdir=a", "--workdir=b/../a"]),
    ("semiseg_jax.export", [_W, "--out=x.unknown"]),
    ("semiseg_jax.sweep", ["a.yaml", "--out=gs://b/x"]),
    ("semiseg_jax.main", [_TOY]),
    ("semiseg_jax.main", [_TOY, "--workdir=w", "word"]),
    ("semiseg_jax.main", [_TOY, "--workdir=w", "--config.train.stps=3"]),
    ("semiseg_jax.config", ["--config=configs/absent.py"]),
    ("semiseg_jax.benchmark.summary", []),
    ("data_prep.folder", ["--images=i"]),
    ("data_prep.splits", ["--dataset=d"]),
  ],
)
def test_options_that_cannot_be_used_are_2_before_any_work(module, argv, capsys):
  code, said = status(module, argv, capsys)
  assert code == 2 and said.strip(), said


@pytest.mark.parametrize(
  "module, argv",
  [
    ("semiseg_jax.evaluate", [_W]),
    ("semiseg_jax.predict", [_W, "--images=i", "--out=o"]),
    ("semiseg_jax.label", [_W, "--out=o"]),
    ("semiseg_jax.suggest", [_W, "--out=o"]),
    ("semiseg_jax.report", [_W]),
    ("semiseg_jax.export", [_W, "--out=x.npz"]),
    ("semiseg_jax.sweep", ["gone.yaml", "--out=o"]),
    ("data_prep.inspect", [_GONE]),
  ],
)
def test_files_that_are_not_there_are_1(module, argv, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code, said = status(module, argv, capsys)
  assert code == 1 and "gone" in said, said


@pytest.mark.parametrize(
  "kind, code",
  [(ConfigError, 2), (OptionError, 2), (DataError, 1), (CheckpointError, 1), (WeightsError, 1)],
)
def test_the_kind_of_error_decides_and_the_line_is_said_once(kind, code, capsys):
  with pytest.raises(SystemExit, match="^main: bad; mend it$") as ended:
    with errors.ending("main"), errors.ending("main"):
      raise kind("bad; mend it")
  said = capsys.readouterr().err
  assert (ended.value.code, said) == (
    (2, "main: bad; mend it\n") if code == 2 else (str(ended.value), "")
  )


def test_a_line_that_is_changed_on_its_way_out_is_said_as_it_came_out(capsys):
  with pytest.raises(SystemExit, match="gs://b/run") as ended, errors.ending("main"):
    try:
      with errors.ending("main"):
        raise ConfigError("/tmp/mirror: bad")
    except errors.Ended as error:
      again = errors.Ended(str(error).replace("/tmp/mirror", "gs://b/run"))
      vars(again).update(vars(error))
      raise again from error
  assert ended.value.code == 2 and capsys.readouterr().err == "main: gs://b/run: bad\n"


@pytest.mark.parametrize("module", ["semiseg_jax.evaluate", "semiseg_jax.predict"])
def test_an_unknown_protocol_names_what_is_near_and_the_list(module, capsys):
  more = ["--images=i", "--out=o"] if module.endswith("predict") else []
  code, said = status(module, [_W, *more, "--protocol=cps_cty"], capsys)
  assert code == 2 and "Did you mean 'cps_city'?" in said and "--protocol=list" in said


def test_an_unknown_command_is_2(capsys):
  with pytest.raises(SystemExit, match="Did you mean 'predict'") as ended:
    semiseg(["predikt"])
  assert ended.value.code == 2 and capsys.readouterr().err.count("Did you mean") == 1
