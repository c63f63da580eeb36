"""The command that chooses a measurement."""

import pytest

from semiseg_jax.benchmark import __main__ as command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_measurement(flag, capsys):
  command.main([flag])
  text = capsys.readouterr().out
  for name in command.measurements():
    assert f"\n  {name} " in text
  assert "The input pipeline: pictures per second and core" in text


def test_help_of_a_measurement_is_its_own(capsys):
  with pytest.raises(SystemExit) as ended:
    command.main(["--what=input", "--help"])
  assert not ended.value.code
  assert "--rounds" in capsys.readouterr().out


def test_no_measurement_is_an_error(capsys):
  with pytest.raises(SystemExit):
    command.main([])
  assert "--what" in capsys.readouterr().err
