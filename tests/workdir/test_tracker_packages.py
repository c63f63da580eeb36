"""The packages themselves, without a network: what a killed and resumed run leaves in them."""

import json
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.workdir import trackers, writers

pytestmark = [pytest.mark.extras, pytest.mark.slow]

START = f"""
import sys
from tests.workdir.{__name__.rpartition(".")[2]} import start, write
writer = start(sys.argv[1], sys.argv[2], int(sys.argv[3]))
write(writer, *map(int, sys.argv[4].split(",")))
if len(sys.argv) == 5:
  writer.close()
else:
  import os
  os.kill(os.getpid(), 9)
"""
CLASS = "val/iou/car (ignored)"  # a name that MLflow does not take


def start(folder, names, resume_step):
  told = {"train.steps": 50, "data.crop": (32, 32), "method.name": "cps"}
  tracked = trackers.Tracked(names, told, frozenset(), 50)
  return writers.create_writer(folder, resume_step=resume_step, tracked=tracked)


def write(writer, *steps):
  for step in steps:
    writer.write_scalars(step, {"loss": step + 0.5, CLASS: 0.25})
    writer.write_scalars(step, {"val/miou": step / 100})
    writer.write_images(step, {"sheet": np.full((8, 8, 3), step, np.uint8)})


def run(*argv, **variables):
  environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)}
  return subprocess.run((sys.executable, "-c", START, *argv), env=environment).returncode


def killed_and_resumed(folder, name, **variables):
  assert run(str(folder), name, "0", "10,20,30", "kill", **variables) == -signal.SIGKILL
  assert run(str(folder), name, "20", "30,40,50", **variables) == 0
  return json.loads((folder / "trackers.json").read_text())[name]["id"]


def test_mlflow_keeps_one_run(tmp_path, monkeypatch):
  mlflow = pytest.importorskip("mlflow")
  for needed in ("sqlalchemy", "alembic"):
    pytest.importorskip(needed)
  monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
  run_id = killed_and_resumed(tmp_path, "mlflow")
  client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
  [experiment] = [e for e in client.search_experiments() if e.name == "semiseg_jax"]
  [found] = client.search_runs([experiment.experiment_id])
  assert (found.info.run_id, found.info.status) == (run_id, "FINISHED")
  assert found.data.params["data.crop"] == "(32, 32)"
  for name in ("loss", "val/miou", "val/iou/car _ignored_"):
    assert [m.step for m in client.get_metric_history(run_id, name)] == [10, 20, 30, 40, 50]
  assert found.data.metrics["val/miou"] == 0.5
  assert [file.path for file in client.list_artifacts(run_id, "sheet")] == [
    f"sheet/step_000000{step}.png" for step in (10, 20, 30, 40, 50)
  ]
  monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
  with pytest.raises(ConfigError, match="the record of this run is in mlflow.db of its folder"):
    start(str(tmp_path), "mlflow", 50)


def test_wandb_keeps_one_run(tmp_path):
  pytest.importorskip("wandb")
  run_id = killed_and_resumed(tmp_path, "wandb", WANDB_MODE="offline")
  files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
  assert [file.stem for file in files] == [f"run-{run_id}"] * 2
  # What the first start wrote in its last seconds may be lost, and is written again.
  rows = {row["step"]: row for file in files for row in _history(file)}
  assert sorted(rows) == [10, 20, 30, 40, 50]
  for step, row in rows.items():
    assert (row["_step"], row["loss"], row["val/miou"]) == (step, step + 0.5, step / 100)
    assert row[CLASS] == 0.25
  assert all(rows[step]["sheet/format"] == "png" for step in (30, 40, 50))


def test_wandb_without_a_login_is_refused(tmp_path, monkeypatch):
  pytest.importorskip("wandb")
  for name in ("WANDB_API_KEY", "WANDB_MODE"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("NETRC", str(tmp_path / "none"))
  monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
  with pytest.raises(ConfigError, match="not logged in.*wandb login.*WANDB_MODE=offline"):
    start(str(tmp_path), "wandb", 0)


def _history(file):
  """The rows of W&B's file: LevelDB's log format behind seven bytes."""
  from wandb.proto import wandb_internal_pb2

  data, at, record = file.read_bytes(), 7, b""
  while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
      at += 32768 - at % 32768
      continue
    _, size, kind = struct.unpack("<IHB", data[at : at + 7])
    record += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or its last part
      found, record = wandb_internal_pb2.Record.FromString(record), b""
      if found.WhichOneof("record_type") == "history":
        items = found.history.item
        yield {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
