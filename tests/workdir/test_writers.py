import io
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semiseg_jax.workdir import writers


def rows_of(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events_of(workdir):
  return EventAccumulator(str(workdir)).Reload()


def write_steps(workdir, steps, resume_step, offset=0.0):
  writer = writers.create_writer(str(workdir), resume_step=resume_step)
  for step in steps:
    writer.write_scalars(step, {"loss": step + offset, "lr": np.float32(0.5)})
  writer.close()


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
  monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)


def test_scalars_reach_both_files(tmp_path):
  writer = writers.create_writer(str(tmp_path / "run"), resume_step=0)
  writer.write_scalars(3, {"loss": jax.numpy.float32(0.25), "n": 7, "a/b": np.float64(1.5)})
  writer.flush()
  row = rows_of(tmp_path / "run")[0]
  assert row.pop("time") > 1.6e9
  assert row == {"step": 3, "loss": 0.25, "n": 7.0, "a/b": 1.5}
  events = events_of(tmp_path / "run")
  assert sorted(events.Tags()["scalars"]) == ["a/b", "loss", "n"]
  (event,) = events.Scalars("loss")
  assert (event.step, event.value) == (3, 0.25)
  writer.close()


def test_pictures_texts_and_settings_reach_tensorboard(tmp_path):
  one = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
  many = np.random.default_rng(1).integers(0, 256, (2, 3, 5, 1), np.uint8)
  writer = writers.create_writer(str(tmp_path), resume_step=0)
  writer.write_images(5, {"sheet": one, "masks": many})
  writer.write_texts(5, {"note": "a | b"})
  writer.write_hparams({"lr": 0.02, "method": "cps", "sizes": (3, 4)})
  writer.close()
  events = events_of(tmp_path)
  assert sorted(events.Tags()["images"]) == ["masks/0", "masks/1", "sheet"]
  for tag, picture in [("sheet", one), ("masks/0", many[0, ..., 0]), ("masks/1", many[1, ..., 0])]:
    (event,) = events.Images(tag)
    decoded = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    np.testing.assert_array_equal(decoded, picture)
    assert (event.step, event.height, event.width) == (5, *picture.shape[:2])
  (note,) = events.Tensors("note")
  assert note.tensor_proto.string_val == [b"a | b"]
  assert b"| sizes | (3, 4) |" in events.Tensors("hparams")[0].tensor_proto.string_val[0]
  content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
  assert b"method" in content


def test_resume_takes_back_later_steps(tmp_path):
  write_steps(tmp_path, [10, 20, 30, 40], resume_step=0)
  write_steps(tmp_path, [30, 50], resume_step=20, offset=0.5)
  assert [(r["step"], r["loss"]) for r in rows_of(tmp_path)] == [
    (10, 10.0), (20, 20.0), (30, 30.5), (50, 50.5)]  # fmt: skip
  events = events_of(tmp_path)
  assert [(e.step, e.value) for e in events.Scalars("loss")] == [
    (10, 10.0), (20, 20.0), (30, 30.5), (50, 50.5)]  # fmt: skip


def test_new_run_in_a_folder_without_checkpoint_starts_afresh(tmp_path):
  write_steps(tmp_path, [0, 10], resume_step=0)
  write_steps(tmp_path, [0], resume_step=0, offset=0.5)
  assert [(r["step"], r["loss"]) for r in rows_of(tmp_path)] == [(0, 0.5)]
  assert [(e.step, e.value) for e in events_of(tmp_path).Scalars("loss")] == [(0, 0.5)]


def test_a_killed_run_leaves_torn_files_that_resume(tmp_path, caplog):
  write_steps(tmp_path, [10, 20, 30], resume_step=0)
  lines = tmp_path / "metrics.jsonl"
  lines.write_text(lines.read_text()[:-9])
  (events,) = tmp_path.glob("events.*")
  events.write_bytes(events.read_bytes()[:-3])
  write_steps(tmp_path, [21], resume_step=20)
  assert [r["step"] for r in rows_of(tmp_path)] == [10, 20, 21]
  assert "dropped 1 unreadable line" in caplog.text
  assert [e.step for e in events_of(tmp_path).Scalars("loss")] == [10, 20, 21]


@pytest.mark.parametrize("torn", [b'{"step": 2, "a":\xea\xd0}', b"[" * 100_000, b"\x85\xff", b"[]"])
def test_lines_of_any_bytes_are_dropped_and_others_stay_as_they_are(tmp_path, torn):
  rows = [b'{"step": 1, "a": "\xc3\xa9"}', b'{"step": 3}']
  (tmp_path / "m").write_bytes(b"\n".join([rows[0], torn, rows[1], b""]))
  assert writers.cut_json_lines(tmp_path / "m", 3) == 1
  assert (tmp_path / "m").read_bytes().splitlines() == rows


def test_cutting_is_atomic(tmp_path, monkeypatch):
  write_steps(tmp_path, [10, 20], resume_step=0)
  before = (tmp_path / "metrics.jsonl").read_text()

  def fail(self, target):
    raise OSError("killed here")

  monkeypatch.setattr(pathlib.Path, "replace", fail)
  with pytest.raises(OSError, match="killed here"):
    writers.cut_json_lines(tmp_path / "metrics.jsonl", 10)
  assert (tmp_path / "metrics.jsonl").read_text() == before


def test_rows_are_on_disk_before_close(tmp_path):
  writer = writers.create_writer(str(tmp_path), resume_step=0)
  writer.write_scalars(1, {"loss": 1.0})
  assert len(rows_of(tmp_path)) == 1
  writer.close()


def test_numbers_json_does_not_have(tmp_path):
  writer = writers.create_writer(str(tmp_path), resume_step=0)
  writer.write_scalars(1, {"a": float("nan"), "b": -np.inf})
  writer.close()
  strict = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
  assert (strict["a"], strict["b"]) == ("nan", "-inf")


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  write_steps(tmp_path / "run", [1], resume_step=0)
  assert not (tmp_path / "run").exists()
