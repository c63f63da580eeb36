"""What evaluate, predict, export and the benchmarks do with a user's error and with one of ours."""

import errno

import pytest

from semiseg_jax import evaluate, export, label, predict
from semiseg_jax.benchmark import cost, step, summary
from semiseg_jax.errors import CheckpointError, ConfigError, DataError, NonFiniteError, WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.training import experiment

_TOY = "--config=configs/cps_toy.py"
# Name -> main, its arguments, (module, function) deep inside of it, the beginning of its message.
COMMANDS = {
  "evaluate": (evaluate.main, ["--workdir=w"], (inference, "load_trained"), "evaluate: "),
  "predict": (
    predict.main,
    ["--workdir=w", "--images=i", "--out=o"],
    (inference, "load_trained"),
    "predict: ",
  ),
  "export": (
    export.main,
    ["--workdir=w", "--out=x.npz"],
    (inference, "load_trained"),
    "export: ",
  ),
  "label": (label.main, ["--workdir=w", "--out=o"], (inference, "load_trained"), "label: "),
  "summary": (summary.main, ["summary", _TOY], (cost, "stages"), "summary: "),
  "step": (step.main, [_TOY], (experiment, "make_method"), "benchmark: "),
}
KINDS = (CheckpointError, ConfigError, DataError, NonFiniteError, WeightsError)


def _raising(error):
  def work(*args, **options):
    raise error

  return work


@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
@pytest.mark.parametrize(
  "error",
  [ValueError("ours"), KeyError("ours"), AttributeError("ours"), ConnectionError("ours")],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bug_keeps_its_traceback(name, error, monkeypatch):
  main, arguments, (module, function), _ = COMMANDS[name]
  monkeypatch.setattr(module, function, _raising(error))
  with pytest.raises(type(error), match="ours"):
    main(arguments)


@pytest.mark.filterwarnings("ignore:the load_module")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_of_the_user_is_its_message(name, kind, monkeypatch):
  main, arguments, (module, function), begins = COMMANDS[name]
  monkeypatch.setattr(module, function, _raising(kind("x.png: bad; mend it")))
  with pytest.raises(SystemExit) as ended:
    main(arguments)
  said = f"{begins}x.png: bad; mend it"
  assert str(ended.value) == said and ended.value.code == (2 if kind is ConfigError else said)


@pytest.mark.filterwarnings("ignore:the load_module")
@pytest.mark.parametrize(
  ("error", "says"),
  [
    (OSError(errno.ENOSPC, "No space left"), "No space left; free some space"),
    (PermissionError(errno.EACCES, "denied", "w/x"), "w/x: denied; mend its permissions"),
    (NotADirectoryError(errno.ENOTDIR, "no folder", "w"), "w: no folder; correct the path"),
  ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_system_says_of_a_disk_is_a_message(name, error, says, monkeypatch):
  main, arguments, (module, function), begins = COMMANDS[name]
  monkeypatch.setattr(module, function, _raising(error))
  with pytest.raises(SystemExit, match=f"^{begins}{says}"):
    main(arguments)
