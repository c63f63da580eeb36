"""The study: its table, its processes, what it plans; one small study from end to end."""

import argparse
import json
import math
import sys

import pytest

from configs import cps_toy
from semiseg_jax.benchmark import study, study_table
from semiseg_jax.benchmark.study_table import Row
from semiseg_jax.evaluation import protocol
from semiseg_jax.sweeping import processes, results
from semiseg_jax.sweeping.processes import Task
from tests import small_city

ROWS = [
  Row("supervised", "network", {0: 0.30, 1: 0.32}, 1.0),
  Row("cps", "network 0 of 2", {0: 0.33, 1: 0.33}, 3.456),
  Row("unimatch", "network", {1: 0.31}, None, ["seed 0: out of luck"]),
  Row("gct"),
]


def test_a_row_is_compared_with_supervised_seed_by_seed():
  supervised, cps, unimatch, gct = ROWS
  assert math.isclose(cps.mean, 0.33) and math.isclose(supervised.mean, 0.31)
  assert math.isclose(cps.gain(supervised), 0.02)
  assert math.isclose(unimatch.gain(supervised), -0.01)  # seed 1 alone, not against both
  assert math.isnan(gct.mean) and math.isnan(gct.gain(supervised))


def test_the_table_in_markdown_and_csv(tmp_path):
  study_table.write(tmp_path / "new", "Title", ROWS, [0, 1])
  lines = (tmp_path / "new" / "study.md").read_text().splitlines()
  assert lines[0] == "Title"
  assert lines[2] == "| method | mIoU | seed 0 | seed 1 | difference | step | evaluated |"
  assert lines[5] == "| cps | 33.00 | 33.00 | 33.00 | +2.00 | 3.46 | network 0 of 2 |"
  assert lines[6] == "| unimatch | 31.00 |  | 31.00 | -1.00 |  | network |"
  assert lines[-1] == "* unimatch: seed 0: out of luck"
  head, *rows = (tmp_path / "new" / "study.csv").read_text().splitlines()
  assert head == "method,miou,seed_0,seed_1,difference,step,evaluated"
  assert rows[2].startswith("unimatch,0.31,,0.31,-0.01") and rows[3] == "gct,,,,,,"


def _task(folder, title, code, value=0.5):
  """A process that may write a file; it is done when that is there."""
  out = folder / title
  read = lambda: value if out.is_file() else None
  command = (sys.executable, "-c", code.format(out=str(out)))
  return Task(title, command, folder / "logs" / f"{title}.log", read)


WRITES = "open({out!r}, 'w')"


def test_a_failing_process_does_not_lose_the_others(tmp_path):
  (tmp_path / "there").touch()
  tasks = [
    _task(tmp_path, "fails", "print('x'); raise SystemExit('no such weights')"),
    _task(tmp_path, "silent", "pass"),
    _task(tmp_path, "there", "raise SystemExit('started again')"),
    _task(tmp_path, "works", WRITES, 0.25),
  ]
  found = {task.title: outcome for task, outcome in processes.run(tasks, 2, 60)}
  assert found["fails"].value is None and "no such weights" in found["fails"].fault
  assert "fails.log" in found["fails"].fault and "said nothing" in found["silent"].fault
  assert found["there"] == processes.Outcome(0.5)
  assert found["works"].value == 0.25 and found["works"].seconds > 0


def test_a_process_that_takes_too_long_is_ended(tmp_path):
  [(_, outcome)] = processes.run([_task(tmp_path, "slow", "import time; time.sleep(60)")], 1, 0.5)
  assert outcome.value is None and outcome.fault.startswith("ended after 0 s")
  assert outcome.seconds < 30


def test_an_interrupt_ends_the_processes(tmp_path):
  ends = "import time, pathlib\ntry:\n  time.sleep(60)\nfinally: pathlib.Path({out!r}).touch()"
  interrupted = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit())\n{ends}"
  tasks = [
    _task(tmp_path, "quick", "import time; time.sleep(1)"),
    _task(tmp_path, "long", interrupted),
  ]
  running = processes.run(tasks, 2, 60)
  next(running)
  assert not (tmp_path / "long").exists()
  running.close()
  assert (tmp_path / "long").exists()


def _saved(folder, config, step, miou, **changes):
  """A result file as a run writes it."""
  (folder / "evaluations").mkdir(parents=True, exist_ok=True)
  how = protocol.from_config(config.eval)
  fields = {
    "checkpoint_step": step,
    "protocol": how.as_dict(),
    "config": config.to_dict(),
    "miou": miou,
  }
  (folder / "evaluations" / f"{step}.json").write_text(json.dumps(fields | changes))


def _miou(config, workdir):
  found = results.final(config, workdir)
  return found and found["miou"]


def test_the_result_of_a_run_is_that_of_its_last_step_and_its_config(tmp_path):
  config = cps_toy.get_config("method=supervised")
  assert _miou(config, tmp_path) is None
  _saved(tmp_path, config, 500, 0.2)
  assert _miou(config, tmp_path) is None
  _saved(tmp_path, config, 1500, 0.3)
  assert _miou(config, tmp_path) == 0.3
  config.eval.every = 7  # free: the same run
  assert _miou(config, tmp_path) == 0.3
  config.optimizer.learning_rate *= 2
  assert _miou(config, tmp_path) is None


def test_the_result_of_stages_is_that_of_the_last_one(tmp_path):
  config = cps_toy.get_config("method=self_training")
  (tmp_path / "stages.json").write_text('{"stages": ["1_teacher", "2_student"]}')
  _saved(tmp_path / "1_teacher", config, 1500, 0.1)
  assert _miou(config, tmp_path) is None
  last = results.train.stage_configs(config, str(tmp_path))[-1]
  _saved(tmp_path / "2_student", last, 1500, 0.4)
  assert _miou(config, tmp_path) == 0.4
  (tmp_path / "stages.json").write_text('{"stages": ["1_tea')
  assert _miou(config, tmp_path) is None


def _options(tmp_path, **changes):
  given = {
    "workdir": tmp_path, "config": "configs/cps_toy.py:ratio=1_8", "methods": None,
    "seeds": [0, 3], "all_labels": "yes", "minutes": 1, "jobs": 1, "costs": "yes",
  }  # fmt: skip
  return argparse.Namespace(**given | changes)


def test_every_method_is_planned_with_every_seed(tmp_path):
  plan = study.Study(_options(tmp_path), ["--config.train.steps=900"])
  runs = list(plan.runs())
  titles = [run.title for run in runs]
  names = [*cps_toy.METHODS, "supervised, all labels"]
  assert titles == [f"{name}, seed {seed}" for seed in (0, 3) for name in names]
  by = dict(zip(titles, runs))
  command = by["unimatch, seed 3"].command
  assert "--config=configs/cps_toy.py:ratio=1_8,method=unimatch" in command
  assert {"--config.seed=3", "--config.train.steps=900"} <= set(command)
  assert f"--workdir={tmp_path}/unimatch_3" in command
  added = by["cps+pixel_contrast, seed 0"].command
  assert "--config=configs/cps_toy.py:ratio=1_8,method=cps,add=pixel_contrast" in added
  assert f"--workdir={tmp_path}/cps+pixel_contrast_0" in added
  assert "--config.data.labeled=train" in by["supervised, all labels, seed 0"].command
  costs = {cost.title: cost.command for cost in plan.costs()}
  assert len(costs) == len(cps_toy.METHODS) - 1
  against = "--against=configs/cps_toy.py:ratio=1_8,method=supervised"
  assert {against, "--against.train.steps=900"} <= set(costs["cps, step"])
  assert "learning rate" not in plan.write() and "900 steps of 4 labeled" in plan.write()


def test_a_method_that_cannot_run_is_a_line(tmp_path):
  plan = study.Study(_options(tmp_path, methods=["cps", "cpss"], all_labels="no"), [])
  assert [run.title for run in plan.runs()] == [
    "supervised, seed 0", "cps, seed 0", "supervised, seed 3", "cps, seed 3",
  ]  # fmt: skip
  assert "\n* cpss: " in plan.write() and "method='cpss'" in plan.write()
  assert (tmp_path / "study.md").read_text() == plan.write()


@pytest.mark.parametrize(
  "argv, said",
  [
    (["--workdir=x", "--confg.seed=1"], "--confg.seed=1: neither an option"),
    (["--workdir=x", "--config=a.py:method=cps"], "--methods says which"),
    (["--workdir=x", "--config=a.py:add=pixel_contrast"], "--methods says which"),
    (["--methods=cps"], "--workdir"),
    (["--jobs=0"], "--jobs: '0': write a whole number from 1 on"),
    (["--seeds=a"], "--seeds: 'a': write whole numbers from 0 on with commas between them"),
    (["--seeds="], "--seeds: ''"),
    (["--seeds=1,-2"], "--seeds: '1,-2'"),
    (["--minutes=0"], "--minutes: '0': write a number above 0"),
    (["--minutes=nan"], "--minutes: 'nan'"),
    (["--methods="], "--methods: '': write names"),
    (["--methods=cps,"], "--methods: 'cps,'"),
  ],
)
def test_wrong_options_are_named(argv, said, capsys):
  with pytest.raises(SystemExit):
    study.main(argv)
  assert said in capsys.readouterr().err


def test_methods_are_asked_for_where_a_config_names_none():
  with pytest.raises(SystemExit, match="names no METHODS: say which with --methods"):
    study.main(["--workdir=x", "--config=configs/gct_voc.py"])
  with pytest.raises(SystemExit, match="there is no such file"):
    study.main(["--workdir=x", "--config=configs/absent.py"])


TINY = ["--config=configs/cps_toy.py:ratio=1_8", "--methods=cps", "--seeds=0", "--costs=no"]


def test_a_folder_that_cannot_be_made_is_one_line():
  with pytest.raises(SystemExit, match="study: /proc/x: .*correct the path"):
    study.main(["--workdir=/proc/x", *TINY])


def test_a_study_without_a_value_has_failed(monkeypatch, tmp_path, capsys):
  ending = processes.Outcome(None, "no such weights", 1.0)
  monkeypatch.setattr(processes, "run", lambda tasks, *_: ((t, ending) for t in tasks))
  with pytest.raises(SystemExit, match="study: nothing has a value"):
    study.main([f"--workdir={tmp_path}", *TINY])
  assert "* cps: seed 0: no such weights" in capsys.readouterr().out
  with pytest.raises(SystemExit, match="study: nothing has a value"):
    study.main([f"--workdir={tmp_path}", *TINY, "--costs=only"])
  study.main([f"--workdir={tmp_path}", *TINY, "--methods=supervised", "--costs=only"])  # no task
  ending = processes.Outcome(0.3, seconds=1.0)
  study.main([f"--workdir={tmp_path}", *TINY])


def test_a_damaged_file_counts_as_none(tmp_path):
  out, config = tmp_path / "costs" / "cps.json", cps_toy.get_config("method=supervised")
  plan = study.Study(_options(tmp_path, methods=["cps"]), [])
  out.parent.mkdir()
  [task] = plan.costs()
  for text, value in (('{"relative": 2.5}', 2.5), ('{"relative": 2', None), ("[]", None)):
    out.write_text(text)
    assert task.done() == value
  plan.recall()
  _saved(tmp_path, config, 1500, 0.3)
  (tmp_path / "evaluations" / "1.json").write_text('{"miou": 0.')
  (tmp_path / "evaluations" / "2.json").write_text('{"miou": 0.1}')
  assert _miou(config, tmp_path) == 0.3


def test_what_is_evaluated():
  of = lambda arg: study.evaluated(cps_toy.get_config(arg))
  assert of("method=cps") == "network 0 of 2" and of("method=supervised") == "network"
  assert of("method=unimatch_v2") == "teacher"
  config = cps_toy.get_config("method=cps")
  config.eval.network = "mean"
  assert study.evaluated(config) == "mean of 2"


@pytest.mark.slow
def test_a_study_from_end_to_end(tmp_path, capsys):
  small_city.write(tmp_path / "city")
  argv = [
    f"--workdir={tmp_path / 'study'}",
    "--config=configs/cps_toy.py:ratio=1_4",
    *("--methods=cpss", "--seeds=0", "--all_labels=no", "--costs=no"),
    f"--config.data.root={tmp_path / 'city'}",
    *("--config.data.crop=(32, 32)", "--config.train.steps=2"),
  ]
  study.main(argv)
  out = capsys.readouterr().out
  assert "[1/1] supervised, seed 0: mIoU " in out and "method='cpss'" in out
  study.main([*argv, "--costs=only", "--methods=supervised"])  # what is there stays in the table
  assert capsys.readouterr().out.splitlines()[-1].startswith("| supervised | ")
  assert "| supervised |  |" not in (tmp_path / "study" / "study.md").read_text()
  study.main(argv)
  again = capsys.readouterr().out
  assert "was there" in again and out.splitlines()[1:] == again.splitlines()[1:]
  assert (tmp_path / "study" / "study.csv").read_text().count("\n") == 3
