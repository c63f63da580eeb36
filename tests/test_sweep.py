"""The command: runs that pretend, one after another; killed, changed, failed."""

import csv
import os
import pathlib
import signal
import sys
import time

import pytest

from semiseg_jax import sweep
from semiseg_jax.errors import DiskError
from semiseg_jax.reporting import writing
from semiseg_jax.sweeping import processes
from tests import forked
from tests.sweeping import made

SETS = "set: {train.steps: 6, data.root: nowhere}"
FILE = f"""
defaults: {{config: configs/cps_toy.py, {SETS}}}
runs:
  - {{name: a, seeds: [0, 2]}}
  - {{name: broken}}
  - {{name: b, seeds: 1}}
"""
COMMAND = (sys.executable, made.__file__)


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(processes, "python", lambda module, *argv: (*COMMAND, *argv))
  monkeypatch.setattr(
    writing, "write", lambda workdirs, page, damaged: f"{page} of {len(workdirs)}"
  )


def run(text, *options):
  pathlib.Path("a.yaml").write_text(text)
  sweep.main(["sweep", "a.yaml", "--out=out", *options])


def begun():
  return pathlib.Path("out/begun").read_text().splitlines()


def test_a_sweep_runs_all_goes_on_and_tells_what_failed(capsys, monkeypatch):
  with pytest.raises(SystemExit, match="sweep: 1 of 4 runs failed, .* tries them again"):
    run(FILE)
  assert begun() == ["a, seed 0", "a, seed 2", "broken, seed 0", "b, seed 1"]
  text = pathlib.Path("out/table.md").read_text()
  assert (
    "| a | 62.50 | 17.68 | 50.00 |  | 75.00 |" in text and "| b | 62.50 |  |  | 62.50 |" in text
  )
  assert "* broken, seed 0: main: the weights are not there. look at data/weights" in text
  assert [row["run"] for row in csv.DictReader(open("out/table.csv"))] == ["a", "b"]
  out = capsys.readouterr().out
  assert "[2/4] a, seed 2: mIoU 75.00 in " in out and "  report  out/report.html of 3\n" in out
  added = FILE.replace("seeds: 1", "seeds: [1, 3]").replace("  - {name: broken}\n", "")
  run(added, "--per_class")
  assert begun()[4:] == ["b, seed 3"]  # what is complete is not started again
  out = capsys.readouterr().out
  assert "NOTE broken, seed 0 is not in the file any more: its folder is left" in out
  assert "[1/4] a, seed 0: mIoU 50.00, was there" in out and "| road |" in out
  with pytest.raises(SystemExit) as error:
    run(added.replace("{name: a,", "{name: a, set: {train.batch_labeled: 3},"))
  assert str(error.value).startswith("sweep: out holds these runs with other configs:\n")
  for seed in (0, 2):
    assert f"\n  a, seed {seed}: train.batch_labeled: 4 then, 3 now" in str(error.value)
  assert begun()[5:] == []
  monkeypatch.setattr(writing, "write", _no_page)
  with pytest.raises(SystemExit, match="sweep: the page was not written: no space"):
    run(added.replace("{name: a,", "{name: a, set: {eval.every: 7},"))  # free: the same run


def _no_page(workdirs, page, damaged):
  raise DiskError("no space")


def test_a_damaged_record_and_a_second_sweep_are_refused():
  pathlib.Path("out").mkdir()
  pathlib.Path("out/sweep.json").write_text('{"runs": {}}')
  with pytest.raises(SystemExit, match="sweep.json: it has lost its seal.*Delete it"):
    run(FILE)
  with sweep.files.locked("out/.sweep.lock", lambda: None):
    with pytest.raises(SystemExit, match="another sweep is at work in out"):
      run(FILE)


def test_wrong_options_are_one_line(capsys):
  for argv, said in (
    ([], "FILE"),
    (["a.yaml"], "--out"),
    (["a.yaml", "--out=x", "--seed=1"], "--seed is no option"),
  ):
    with pytest.raises(SystemExit) as error:
      sweep.main(["sweep", *argv])
    assert error.value.code == 2 and said in capsys.readouterr().err
  with pytest.raises(SystemExit, match="sweep: --out=gs://b/x"):
    sweep.main(["sweep", "a.yaml", "--out=gs://b/x"])
  with pytest.raises(SystemExit, match="sweep: none.yaml: .*correct the path"):
    sweep.main(["sweep", "none.yaml", "--out=x"])


def _sweep_in(folder, out):
  """The command in a process of its own."""
  os.chdir(folder)
  processes.python = lambda module, *argv: (*COMMAND, *argv)
  writing.write = lambda workdirs, page, damaged: ""
  sweep.main(["sweep", "a.yaml", f"--out={out}"])


@pytest.mark.slow
def test_a_sweep_that_is_killed_ends_with_the_same_table(tmp_path):
  text = FILE.replace("  - {name: broken}\n", "")
  pathlib.Path("a.yaml").write_text(text)
  pathlib.Path("killed").mkdir()
  pathlib.Path("killed/pause").write_text("0.5")
  process = forked.Forked(_sweep_in, tmp_path, "killed")
  end = time.monotonic() + 120
  while not pathlib.Path("killed/begun").exists() and time.monotonic() < end:
    time.sleep(0.05)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert not pathlib.Path("killed/runs/b").exists()  # there was something left to do
  pathlib.Path("killed/pause").unlink()
  for out in ("killed", "whole"):
    sweep.main(["sweep", "a.yaml", f"--out={out}"])
  for name in ("table.md", "table.csv"):
    assert pathlib.Path("killed", name).read_text() == pathlib.Path("whole", name).read_text()
  assert len(set(pathlib.Path("killed/begun").read_text().splitlines())) == 3
