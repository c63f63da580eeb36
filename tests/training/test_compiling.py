"""What is said before a step compiles."""

import json

import pytest

from configs import cps_toy
from semiseg_jax.training import compiling


@pytest.fixture
def clock(monkeypatch):
  """Seconds that pass at each look at the clock."""
  now = [0.0]

  def look():
    now[0] += 7
    return now[0]

  monkeypatch.setattr(compiling.time, "monotonic", look)


def _announced(workdir, **changes):
  workdir.mkdir(parents=True, exist_ok=True)
  config = cps_toy.get_config()
  config.update_from_flattened_dict(changes)
  return compiling.Announced(lambda *given: given, config, str(workdir))


def test_the_first_call_of_each_phase_is_announced(tmp_path, capsys, clock):
  step = _announced(tmp_path / "run")
  warm, late = frozenset(), frozenset(["late"])
  assert [step(1, 2, phase) for phase in (warm, warm, late, late)] == [
    (1, 2, phase) for phase in (warm, warm, late, late)
  ]
  assert capsys.readouterr().err == "compiling the step ...\n" * 2
  assert json.loads((tmp_path / "run" / compiling.FILE).read_text())["seconds"] == [7.0]


def test_what_it_took_before_is_said(tmp_path, capsys, clock):
  for name in ("first", "first", "beside"):
    _announced(tmp_path / name)(1, 2, frozenset())
  lines = capsys.readouterr().err.splitlines()
  assert lines == ["compiling the step ..."] + ["compiling the step ..., usually 7 s"] * 2


def test_another_step_says_nothing_of_this_one(tmp_path, capsys, clock):
  _announced(tmp_path / "a")(1, 2, frozenset())
  _announced(tmp_path / "b", **{"train.batch_labeled": 3})(1, 2, frozenset())
  (tmp_path / "c").mkdir()
  (tmp_path / "c" / compiling.FILE).write_text("{")
  _announced(tmp_path / "c", **{"train.batch_labeled": 5})(1, 2, frozenset())
  assert "usually" not in capsys.readouterr().err


def test_of_a_directory_the_last_time_counts_for_others_the_first(tmp_path):
  file = tmp_path / "a" / compiling.FILE
  file.parent.mkdir()
  file.write_text(json.dumps({"step": "k", "seconds": [30.0, 4.0]}))
  assert compiling.usual_seconds(file, "k") == 4
  assert compiling.usual_seconds(tmp_path / "b" / compiling.FILE, "k") == 30
  assert compiling.usual_seconds(tmp_path / "b" / compiling.FILE, "other") is None
