import json
import math

import pytest

from semiseg_jax.errors import CheckpointError
from semiseg_jax.reporting import runs
from tests.reporting import made_run


def read(folder):
  (run,) = runs.read(folder, "a", str(folder))
  return run


def test_series_results_and_config_of_a_whole_run(tmp_path):
  run = read(made_run.write(tmp_path, seed=3))
  assert run.series["train/loss"] == [(1, 4.0), (2, 2.0), (3, 4 / 3), (4, 1.0)]
  assert run.series["val/miou"] == [(4, 0.4)] and run.last_row == 1.7e9 + 4
  assert run.config["seed"] == 3 and run.config["data.val"] == "val"
  assert (run.step, run.planned, run.notes) == (4, 4, [])
  assert run.results[0].score == 0.4 and run.results[0].per_class["tree"] == 0.4


def test_torn_lines_are_said_and_the_others_shown(tmp_path):
  rows = [
    {"step": 2, "train/loss": 3},
    '{"step": 3, "train/lo',
    '{"step": "4", "train/loss": 1}',
    "[1]",
    {"step": 1, "train/loss": "nan", "note": "text", "train/finite": True},
    {"step": 2, "train/loss": 5},
    "\x00\x00",
  ]
  run = read(made_run.write(tmp_path, rows=rows, results=()))
  (first, last) = run.series.pop("train/loss")
  assert first[0] == 1 and math.isnan(first[1]) and last == (2, 5.0)
  assert run.series == {}
  assert run.notes[0].startswith("4 of 7 lines of metrics.jsonl cannot be read")


@pytest.mark.parametrize(
  "damage, said",
  [
    (lambda f: (f / "metrics.jsonl").write_bytes(b"\xff\xfe\n" * 3), "3 of 3 lines"),
    (lambda f: (f / "metrics.jsonl").write_text(""), "no step was logged yet"),
    (lambda f: (f / "metrics.jsonl").unlink(), "no metrics.jsonl"),
    (lambda f: (f / "config.json").unlink(), "no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
    (lambda f: (f / "config.json").write_text("[]"), "config.json is damaged"),
    (lambda f: (f / "config.json").write_text('{"new": {"key": 1}}'), "of another version"),
    (lambda f: next((f / "evaluations").iterdir()).write_text("{}"), "left out"),
    (lambda f: next((f / "evaluations").iterdir()).write_text("[" * 5000), "left out"),
  ],
)
def test_what_is_missing_or_damaged_is_said(tmp_path, damage, said):
  damage(made_run.write(tmp_path))
  assert any(said in note for note in read(tmp_path).notes)


@pytest.mark.parametrize(
  "changes",
  [
    {"miou": None},
    {"miou": "x"},
    {"iou": {}},
    {"iou": {"road": "x"}},
    {"confusion": [[1, 2], [3, 4]]},
    {"confusion": [[1, 2, -3]] * 3},
    {"split": {"name": "val"}},
    {"protocol": None},
    {"checkpoint_step": None},
    {"f1": {"road": "high"}},
    {"versions": ["jax"]},
    {"miou_interval": {"low": 0.1}},
    {"calibration": {"ece": 0.1}},
    {"pseudo_labels": {"by_threshold": [{"coverage": 1.0}]}},
  ],
)
def test_a_result_without_what_a_page_needs_is_left_out(tmp_path, changes):
  run = read(made_run.write(tmp_path, results=({}, changes)))
  assert len(run.results) == 1
  assert "val_step_4_network_0_1.json is damaged or no result" in run.notes[0]


def test_a_run_that_goes_on_and_one_without_evaluation_say_so(tmp_path):
  run = read(made_run.write(tmp_path, step=3, planned=9, results=()))
  assert "end at step 3 of 9" in run.notes[0] and "no evaluation" in run.notes[1]


def test_of_each_way_the_latest_step_counts_and_the_own_way_comes_first(tmp_path):
  other = {"name": "test", "ids": 5, "sha256": made_run.OTHER}
  results = ({"step": 2, "miou": 0.9}, {"step": 4}, {"step": 6, "split": other, "miou": 0.8})
  run = read(made_run.write(tmp_path, results=results))
  assert [(r.step, r.score) for r in run.results] == [(4, 0.4), (6, 0.8)]


def test_a_file_that_tells_more_of_one_evaluation_counts(tmp_path):
  made_run.write(tmp_path, results=({}, {"mean_f1": 0.5}))
  made_run.keep(tmp_path, "val_step_4_network_0_0.json")
  run = read(tmp_path)
  assert [r.fields["mean_f1"] for r in run.results] == [0.5]
  assert [one.row.id for one in run.kept.worst] == ["p2", "p1"]


def test_pictures_of_another_way_are_shown_where_the_own_one_kept_none(tmp_path):
  made_run.write(tmp_path, results=({}, {"sha": made_run.OTHER}))
  made_run.keep(tmp_path, "val_step_4_network_0_1.json")
  run = read(tmp_path)
  assert run.kept is not None and run.kept_of is run.results[1]


def test_pictures_of_an_earlier_evaluation_are_not_shown(tmp_path):
  made_run.write(tmp_path)
  made_run.keep(tmp_path, "val_step_2_network_0_0.json", step=2)
  assert read(tmp_path).kept is None
  made_run.keep(tmp_path, "val_step_4_network_0_0.json")
  assert read(tmp_path).kept is not None
  (tmp_path / "evaluations" / "val_network_0_0.pictures.zip").write_bytes(b"PK")
  run = read(tmp_path)
  assert run.kept is None and "val_network_0_0.pictures.zip" in run.notes[0]


def test_stages_come_in_order_and_those_to_come_are_said(tmp_path):
  for name in ("2_student", "1_teacher"):
    made_run.write(tmp_path / name)
  (tmp_path / "targets").mkdir()
  names = {"stages": ["1_teacher", "2_student", "3_last"]}
  (tmp_path / "stages.json").write_text(json.dumps(names))
  found = runs.read(tmp_path, "a", "runs/a")
  assert [run.name for run in found] == ["a/1_teacher", "a/2_student"]
  assert found[0].notes == [] and found[1].notes == ["Not begun yet: 3_last."]
  (tmp_path / "stages.json").write_text(json.dumps(names | {"seal": "0" * 64}))
  found = runs.read(tmp_path, "a", "runs/a")
  assert len(found) == 2 and "stages.json is damaged" in found[1].notes[0]


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(CheckpointError, match="--workdir=here: holds no run; give"):
    runs.read(tmp_path, "a", "here")
  with pytest.raises(CheckpointError, match="--workdir=gone: does not exist"):
    runs.read(tmp_path / "gone", "a", "gone")
  (tmp_path / "stages.json").write_text('{"stages": ["1"]}')
  with pytest.raises(CheckpointError, match="none of its stages has begun"):
    runs.read(tmp_path, "a", "here")
