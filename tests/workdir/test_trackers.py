"""Trackers behind the writer of metrics: one record per run, no step twice, no run lost."""

import json
import sys

import jax
import numpy as np
import pytest

from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.workdir import trackers, writers
from tests.workdir import made_record
from tests.workdir.made_record import FAILS, RECORDS


@pytest.fixture(autouse=True)
def _made(monkeypatch):
  monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
  monkeypatch.setitem(trackers.MODULES, "wandb", made_record.__name__)
  RECORDS.clear()
  FAILS.clear()


def start(folder, resume_step=0, names="wandb", steps=50, **config):
  told = {"train.steps": 50, "eval.every": 10, **config}
  tracked = trackers.Tracked(names, told, {"eval.every"}, steps)
  return writers.create_writer(str(folder), resume_step=resume_step, tracked=tracked)


def write(writer, *steps):
  for step in steps:
    writer.write_scalars(step, {"loss": np.float32(step)})
    writer.write_scalars(step, {"val/miou": step / 100})
    writer.write_images(step, {"sheet": np.zeros((2, 3, 3), np.uint8)})


def losses(record="r0"):
  return [step for step, row in RECORDS[record]["rows"] if "loss" in row]


def test_a_record_has_config_rows_and_pictures(tmp_path, capsys):
  writer = start(tmp_path / "cps" / "seed_0")
  write(writer, 10, 50)
  writer.write_images(50, {"two": np.zeros((2, 4, 4, 1), np.uint8)})
  writer.write_texts(50, {"note": "x"})
  writer.close()
  [record] = RECORDS.values()
  assert record["rows"][:2] == [(10, {"loss": 10.0}), (10, {"val/miou": 0.1})]
  assert record["images"][0] == (10, {"sheet": (2, 3, 3)})
  assert record["images"][-1] == (50, {"two/0": (4, 4, 1), "two/1": (4, 4, 1)})
  assert record["texts"] == [(50, {"note": "x"})] and record["complete"] is True
  assert (record["name"], record["config"]["train.steps"]) == ("cps/seed_0", 50)
  assert capsys.readouterr().out == "  tracked    wandb: in memory\n"


def test_a_killed_run_goes_on_in_its_record_and_repeats_no_step(tmp_path):
  write(start(tmp_path), 10, 20, 30, 40)  # killed: not closed; the checkpoint is of 20
  write(again := start(tmp_path, 20, **{"eval.every": 5}), 30, 40, 50)
  again.close()
  assert list(RECORDS) == ["r0"] and RECORDS["r0"]["opened"] == 2
  # Of step 40 all rows may not have been there: nothing had come after it.
  assert losses() == [10, 20, 30, 40, 40, 50]
  assert RECORDS["r0"]["complete"] is True
  write(more := start(tmp_path, 50, steps=70), 60)
  more.close()
  assert losses()[-2:] == [50, 60] and RECORDS["r0"]["complete"] is False


def test_a_run_is_complete_when_this_start_has_come_to_its_end(tmp_path):
  write(start(tmp_path), 10, 50, 51)  # killed before the last checkpoint
  for step, complete in ((20, False), (50, True)):
    write(writer := start(tmp_path, 10), step)
    writer.close()
    assert RECORDS["r0"]["complete"] is complete


def test_what_a_kill_may_take_back_is_written_again(tmp_path, monkeypatch):
  monkeypatch.setattr(made_record.MadeRecord, "delay", 5.0)
  now = [0.0]
  monkeypatch.setattr(trackers.time, "monotonic", lambda: now[0])
  writer = start(tmp_path)
  for step in (10, 20, 30, 40):
    now[0] += 3.0
    write(writer, step)
  write(start(tmp_path, 40), 50)  # 10 was whole at 6 s, 20 at 9 s; it was killed at 12 s
  assert losses() == [10, 20, 30, 40, 20, 30, 40, 50]


def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_its_record(tmp_path):
  write(start(tmp_path), 10, 20)
  write(start(tmp_path, **{"eval.every": 5}), 10, 20, 30)  # free: the same run
  assert losses() == [10, 20, 20, 30]
  write(start(tmp_path, **{"method.name": "other"}), 10)  # another run, in an empty folder
  assert losses("r1") == [10]


def test_rows_that_a_tracker_missed_are_brought_later(tmp_path, caplog):
  write(writer := start(tmp_path), 10)
  FAILS["write_scalars"] = RuntimeError("the server is gone")
  write(writer, 20, 30)
  writer.close()
  assert caplog.text.count("The tracker wandb failed (RuntimeError: the server is gone)") == 1
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [row["step"] for row in rows if "loss" in row] == [10, 20, 30]  # the run went on
  FAILS.clear()
  start(tmp_path, 30, names="").close()
  write(again := start(tmp_path, 30), 40)
  again.close()
  assert sorted(set(losses())) == [10, 20, 30, 40]
  assert (20, {"val/miou": 0.2}) in RECORDS["r0"]["rows"]


@pytest.mark.parametrize("call", ["write_scalars", "write_images", "close"])
def test_no_call_of_a_tracker_ends_a_run(tmp_path, caplog, call):
  writer = start(tmp_path)
  FAILS[call] = KeyError("of its own")
  write(writer, 10, 20)
  writer.close()
  assert caplog.text.count("failed (KeyError") == 1


def test_a_file_that_is_gone_ends_no_run(tmp_path, caplog):
  write(writer := start(tmp_path), 10)
  (tmp_path / "trackers.json").unlink()
  write(writer, 20)
  writer.close()
  assert "The tracker wandb failed" in caplog.text


def test_a_tracker_that_cannot_be_used_ends_a_run_at_its_start(tmp_path):
  FAILS["open"] = ConnectionError("no route\nto host.")
  with pytest.raises(ConfigError, match=r"track=wandb: .* \(no route to host\). Mend it.$"):
    start(tmp_path)
  FAILS["open"] = ModuleNotFoundError("No module named 'made'")
  with pytest.raises(ConfigError, match="No module named 'made': pip install made, or take"):
    start(tmp_path)
  FAILS["open"] = RuntimeError("a bug of ours")
  with pytest.raises(RuntimeError):
    start(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"wandb": 3}'])
def test_a_damaged_file_is_refused(tmp_path, text):
  (tmp_path / "trackers.json").write_text(text)
  with pytest.raises(CheckpointError, match="trackers.json is damaged.*delete it"):
    start(tmp_path)


def test_without_the_key_or_on_other_processes_nothing_is_told(tmp_path, monkeypatch):
  write(start(tmp_path, names=""), 10)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  write(start(tmp_path), 10)
  assert not RECORDS and not (tmp_path / "trackers.json").exists()
  assert not {"wandb", "mlflow"} & sys.modules.keys()
