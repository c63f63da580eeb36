"""What only a GPU can show: `SEMISEG_TEST_PLATFORM=cuda python -m pytest -m gpu`."""

import pytest

from tests import kill_runs, small_city, staged_runs

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


def test_deterministic_runs_end_with_the_same_bits(tmp_path):
  small_city.write(tmp_path / "small")
  settings = {
    **staged_runs.SETTINGS,
    "data.root": tmp_path / "small",
    "data.labeled": "labeled_1_4",
    "runtime.compilation_cache": "off",
  }
  flags = [f"--config.{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
  runs = [tmp_path / name for name in ("one", "two")]
  for run in runs:
    ended = kill_runs.run(run, "configs/cps_toy.py", [*flags, "--deterministic"], None)
    assert ended == 0, run.with_suffix(".log").read_text()
  assert kill_runs.compare(*runs, staged_runs.STEPS) == []
