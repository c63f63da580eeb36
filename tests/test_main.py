"""The command line: one line for what a user got wrong, a traceback for a bug, XLA's flags."""

import os
import pathlib
import re
import subprocess
import sys
import types

import jax
import pytest
from absl import flags

from configs import cps_toy
from semiseg_jax import machine, main, sharding, train
from semiseg_jax.config import command_line, rules
from semiseg_jax.errors import (
  CheckpointError,
  ConfigError,
  DataError,
  NonFiniteError,
  UserError,
  WeightsError,
)
from semiseg_jax.training import experiment, prepare
from tests import forked, small_city

REPOSITORY = pathlib.Path(__file__).parents[1]


def _start(*arguments):
  """Its exit status and what it says to stderr."""
  process = forked.Forked(forked.command, *arguments)
  _, said = process.communicate(timeout=120)
  return process.returncode, said


TOY = "--config=configs/cps_toy.py"


@pytest.mark.slow
@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--config=configs/cps_toy.py:ratios=1_8"], "'ratios=1_8': write key=value with ratio"),
    (["--config=configs/cps_city.py:ratio=1_3"], "ratio='1_3': one of 1_16, 1_8"),
    (["--config=configs/absent.py"], "--config=configs/absent.py: there is no such file"),
    ([TOY, "--config.train.stepz=3"], "--config.train.stepz is no key; nearest: train.steps"),
    ([TOY, "--config.trian.steps=3"], "--config.trian.steps is no key; nearest: train.steps"),
    ([TOY, "--config.train.steps=many"], "--config.train.steps=many: a whole number, 1 or more"),
    ([TOY, "--steps=3"], "--steps is no option. Did you mean --config.train.steps=VALUE?"),
    ([TOY, "--workdir=az://bucket/run"], "az://bucket/run: object stores are written gs://"),
  ],
)
def test_wrong_arguments_are_one_line(arguments, said, tmp_path):
  status, text = _start(f"--workdir={tmp_path}", *arguments)
  assert status == 2
  (line,) = text.strip().splitlines()
  assert line.startswith("main: ") and said in line


@pytest.mark.parametrize(
  "bug, kind, said",
  [
    ("nothing", NameError, "name 'nothing' is not defined"),
    ("{}['bug']", KeyError, "bug"),
    ("(1).nothing", AttributeError, "no attribute 'nothing'"),
    ("int('many')", ValueError, "invalid literal"),
  ],
)
def test_a_bug_in_a_config_keeps_its_traceback(tmp_path, bug, kind, said):
  file = tmp_path / "mine.py"
  file.write_text(f"def get_config(arg=None):\n  return {bug}\n")
  with pytest.raises((kind, flags.Error), match=said) as raised:
    command_line.read([f"--config={file}"], "main")
  assert kind is type(raised.value) or kind.__name__ in str(raised.value)


def test_a_file_that_a_config_lacks_is_named(tmp_path):
  (tmp_path / "mine.py").write_text("def get_config(arg=None):\n  return open('absent.txt')\n")
  with pytest.raises(SystemExit, match="main: .*absent.txt"):
    command_line.read([f"--config={tmp_path / 'mine.py'}"], "main")


def test_a_file_without_the_function_is_one_line(tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, "config_config", raising=False)
  (tmp_path / "mine.py").write_text("name = 1\n")
  with pytest.raises(SystemExit, match="main: --config: the file has no function get_config"):
    command_line.read([f"--config={tmp_path / 'mine.py'}"], "main")


@pytest.mark.parametrize(
  "content, said",
  [
    (b"def get_config(:", "the file is no Python: .*mine.py, line 1: "),
    (b"x = 1\0", "the file is no Python: .*null bytes"),
    (b"\xff\xfe\x00", "the file is no Python: "),
    (b"def get_config(arg=None):\n  return None", "returns no config of this program"),
  ],
)
def test_a_file_of_something_else_is_one_line(tmp_path, content, said):
  (tmp_path / "mine.py").write_bytes(content)
  with pytest.raises(SystemExit, match=f"main: .*{said}"):
    command_line.read([f"--config={tmp_path / 'mine.py'}", "--config.data.root=x"], "main")


@pytest.mark.parametrize("value", ["1", "{}", "ml_collections.ConfigDict({'name': 'x'})"])
def test_a_file_that_gives_no_config_is_one_line(tmp_path, value):
  file = tmp_path / "mine.py"
  file.write_text(f"import ml_collections\ndef get_config(arg=None):\n  return {value}\n")
  with pytest.raises(SystemExit, match="main: --config: .*returns no config of this program"):
    command_line.read([f"--config={file}"], "main")


@pytest.mark.slow
def test_wrong_values_and_absent_data_end_without_traceback(tmp_path):
  run = (f"--workdir={tmp_path / 'run'}", TOY, "--config.data.prepare=")
  status, text = _start(*run, "--config.train.steps=0", "--config.eval.batch=0")
  assert status == 2 and text.startswith("main: This config cannot run:")
  assert len(text.strip().splitlines()) == 3
  command = [sys.executable, "-m", "semiseg_jax.main", *run]
  command.append(f"--config.data.root={tmp_path / 'city'}")
  ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
  assert ended.returncode == 1
  assert ended.stderr.startswith(f"main: {tmp_path / 'city'} does not exist")
  assert len(ended.stderr.strip().splitlines()) == 1


@pytest.fixture(autouse=True)
def _no_dry_run(monkeypatch):
  monkeypatch.setattr(main, "_DRY_RUN", types.SimpleNamespace(value=False))  # flags are not parsed


def _raise(error):
  def instead(*args):
    raise error

  return instead


OWN = [UserError, ConfigError, DataError, WeightsError, CheckpointError, NonFiniteError]


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("where", [(prepare, "prepare"), (train, "train")])
def test_errors_that_explain_themselves_end_the_process(monkeypatch, kind, where):
  monkeypatch.setattr(*where, _raise(kind("what, where, how to mend")))
  with pytest.raises(SystemExit) as ended:
    main._run(small_city.config("data"), "run")
  assert str(ended.value) == "main: what, where, how to mend"


@pytest.mark.parametrize("kind", [ValueError, TypeError, RuntimeError, KeyError])
def test_bugs_go_through(monkeypatch, kind):
  monkeypatch.setattr(train, "train", _raise(kind("a bug")))
  with pytest.raises(kind, match="a bug"):
    main._run(small_city.config("data"), "run")


def test_out_of_memory_names_keys_that_may_be_set_so(monkeypatch):
  error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB\nmore")
  monkeypatch.setattr(train, "train", _raise(error))
  with pytest.raises(
    SystemExit, match="ran out of memory(.|\n)*RESOURCE_EXHAUSTED: 9 GB.$"
  ) as ended:
    main._run(small_city.config("data"), "run")
  named = re.findall(r"(?:--config)?\.([a-z_.]+[a-z_])(?:=(\w+))?", ended.value.code)
  assert {"train.accumulate", "model.remat", "model.dtype", "data.crop"} < {key for key, _ in named}
  for key, value in named:
    config = cps_toy.get_config()
    block, _, leaf = key.partition(".")
    assert leaf in config[block], key
    if value:
      config[block][leaf] = int(value) if value.isdigit() else value
    rules.validate(config)
    experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)


def test_a_host_without_memory_is_one_line(monkeypatch):
  monkeypatch.setattr(train, "train", _raise(MemoryError("Unable to allocate 9 TiB")))
  with pytest.raises(SystemExit, match="main: this machine ran out of memory.*9 TiB") as ended:
    main._run(small_city.config("data"), "run")
  assert "\n" not in ended.value.code


def test_nothing_is_made_for_a_wrong_config(monkeypatch):
  monkeypatch.setattr(prepare, "prepare", _raise(AssertionError("made")))
  with pytest.raises(SystemExit, match="eval.batch=0"):
    main._run(small_city.config("data", eval__batch=0), "run")


@pytest.mark.parametrize(
  "platforms, devices, expected",
  [
    ("", [], True),
    (None, [], True),
    ("cpu", ["/dev/nvidiactl"], True),
    ("cuda,cpu", [], False),
    ("", ["/dev/nvidiactl"], False),
    ("", ["/dev/kfd"], False),
    ("", ["/dev/accel0"], False),
    ("", ["/dev/vfio"], False),
  ],
)
def test_flags_of_the_cpu_are_for_the_cpu(monkeypatch, platforms, devices, expected):
  monkeypatch.delenv("JAX_PLATFORMS")
  if platforms is not None:
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
  monkeypatch.setenv("XLA_FLAGS", "--first")
  for flag in ("_DETERMINISTIC", "_COORDINATOR"):
    monkeypatch.setattr(main, flag, types.SimpleNamespace(value=None))
  monkeypatch.setattr(
    main.machine.glob, "glob", lambda p: [d for d in devices if p.rstrip("*") in d]
  )
  config = small_city.config("data", runtime__compilation_cache="off")
  config.runtime.cpu_xla_flags = "--xla_of_the_cpu"
  monkeypatch.setattr(main.machine, "refused_flags", lambda flags: "")
  main._start_backend(config)
  assert os.environ["XLA_FLAGS"] == ("--first --xla_of_the_cpu" if expected else "--first")


@pytest.mark.parametrize("flags", ["xla_cpu_a=1", "--xla_cpu_a=1 --cpu_b"])
def test_what_is_no_flag_of_xla_is_one_line(flags):
  config = small_city.config("data", runtime__cpu_xla_flags=flags)
  with pytest.raises(SystemExit, match=f"cpu_xla_flags: '{flags.split()[-1]}'"):
    main._start_backend(config)


@pytest.mark.parametrize(
  "flag, said",
  [
    ("--xla_foo=1", "Unknown flag in XLA_FLAGS: --xla_foo=1"),
    ("--xla_cpu_enable_fast_math=maybe", "value maybe for flag xla_cpu_enable_fast_math"),
  ],
)
def test_a_flag_at_which_xla_ends_the_process_is_one_line(flag, said):
  config = small_city.config("data", runtime__cpu_xla_flags=f"--xla_cpu_enable_fast_math {flag}")
  with pytest.raises(SystemExit, match=f"^main: runtime.cpu_xla_flags=.*{said}.*jaxlib.*$"):
    main._start_backend(config)


def test_flags_that_xla_takes_are_not_refused():
  assert machine.refused_flags("--xla_cpu_enable_fast_math=false") == ""


@pytest.mark.parametrize(
  "coordinator, process, said",
  [
    ("foo", 0, "--coordinator=foo: write host:port, or auto"),
    ("foo:80", 2, "--process=2: 0 to 1"),
    ("foo:80", -1, "--process=-1: 0 to 1"),
  ],
)
def test_processes_that_cannot_meet_are_one_line(monkeypatch, coordinator, process, said):
  for flag, value in (("_COORDINATOR", coordinator), ("_PROCESSES", 2), ("_PROCESS", process)):
    monkeypatch.setattr(main, flag, types.SimpleNamespace(value=value))
  with pytest.raises(SystemExit, match=said):
    main._join_processes()


@pytest.mark.parametrize("given, threads", [(None, "16"), ("3", "3")])
def test_simulated_devices_get_threads(monkeypatch, given, threads):
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
  monkeypatch.delenv("NPROC", raising=False)
  if given:
    monkeypatch.setenv("NPROC", given)
  main._give_threads_to_simulated_devices()
  assert os.environ.pop("NPROC") == threads
