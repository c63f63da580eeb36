"""A step relative to another one, from made-up times and on the small network."""

import pytest

from configs import cps_toy
from semiseg_jax.benchmark import relative, step
from semiseg_jax.training import experiment
from tests import small_network
from tests.methods import cases


@pytest.fixture
def small(monkeypatch):
  make = lambda config, mesh, classes, channels: small_network.method(config, classes=classes)
  monkeypatch.setattr(experiment, "make_method", make)


def _config(method):
  c = cps_toy.get_config(f"method={method}")
  c.data.crop = cases.SIZE
  return c


def test_stages_add_up_and_a_slow_round_does_not_matter(small, monkeypatch):
  seconds = {
    ("config", "0"): [1.0, 10.0, 1.0],
    ("config", "1"): [2.0, 20.0, 2.0],
    ("against", "0"): [1.5, 15.0, 1.0],
  }

  def timed(programs, steps, rounds):
    assert (steps, rounds) == (4, 3)
    assert all(len(program.args) == 2 for program in programs.values())
    return {key: seconds[key] for key in programs}

  monkeypatch.setattr(step, "timed", timed)
  monkeypatch.setattr(step, "whole_step", lambda *_: (lambda state, batch: None, 0, 0, 0.0))
  found = relative.measure(_config("self_training"), _config("supervised"), cases.CLASSES, 4, 3)
  assert found == {"relative": 2.0, "seconds": 3.0, "against": 1.5}


@pytest.mark.slow
def test_two_methods_are_measured(small):
  found = relative.measure(_config("mean_teacher"), _config("supervised"), cases.CLASSES, 1, 3)
  assert found["seconds"] > 0 and found["against"] > 0 and found["relative"] > 0


@pytest.mark.parametrize(
  "argv, said",
  [
    (["--config=configs/cps_toy.py"], "--against"),
    (["--config=a.py", "--against=b.py", "--confg.seed=1"], "--confg.seed=1: neither an option"),
    (["--rounds=0"], "--rounds: '0': write a whole number from 1 on"),
    (["--steps=0"], "--steps: '0': write a whole number from 1 on"),
    (["--classes=256"], "--classes: '256': write a whole number from 0 to 255"),
  ],
)
def test_wrong_options_are_named(argv, said, capsys):
  with pytest.raises(SystemExit):
    relative.main(argv)
  assert said in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_one_line(monkeypatch, tmp_path):
  found = {"relative": 1.0, "seconds": 1.0, "against": 1.0}
  monkeypatch.setattr(relative, "measure", lambda *given: found)
  toy = "configs/cps_toy.py:method=supervised"
  with pytest.raises(SystemExit, match="benchmark: .*absent/.*correct the path"):
    relative.main([f"--config={toy}", f"--against={toy}", f"--out={tmp_path}/absent/out.json"])


def test_both_configs_are_read(monkeypatch):
  seen = {}
  found = {"relative": 1.0, "seconds": 1.0, "against": 1.0}
  monkeypatch.setattr(relative, "measure", lambda *given: seen.update(given=given) or found)
  toy = "configs/cps_toy.py:method"
  argv = [f"--config={toy}=gct", f"--against={toy}=cpc", "--config.seed=3", "--against.seed=4"]
  relative.main([*argv, "--steps=2", "--rounds=1", "--classes=5"])
  config, against, *rest = seen["given"]
  assert (config.method.name, config.seed) == ("gct", 3)
  assert (against.method.name, against.seed) == ("cpc", 4) and rest == [5, 2, 1]
  with pytest.raises(SystemExit, match="benchmark: --config: argument method='x'"):
    relative.main([f"--config={toy}=gct", f"--against={toy}=x"])
