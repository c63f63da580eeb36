"""Folders of runs as training leaves them, made by hand."""

import json

import numpy as np

from semiseg_jax import seals
from semiseg_jax.config import schema
from semiseg_jax.evaluation import extremes
from semiseg_jax.evaluation.pictures import Shown

CLASSES = ("road", "tree", "car")
COLORS = ((128, 64, 128), (0, 128, 0), (0, 0, 200))
# road 80 of 100 right, tree 30 of 40, car never.
CONFUSION = [[80, 15, 5], [10, 30, 0], [6, 4, 0]]
SHA, OTHER = "a" * 64, "b" * 64


def write(folder, *, rows=None, step=4, planned=4, results=({},), config=True, **keys):
  """Writes a run.

  rows: of the metrics, None: some.  results: changes of the fields of each result file.  keys: of
  the config, with __ for dots.
  """
  folder.mkdir(parents=True, exist_ok=True)
  if config:
    saved = schema.default()
    saved.update_from_flattened_dict({k.replace("__", "."): v for k, v in keys.items()})
    saved.train.steps, saved.data.val = planned, "val"
    plain = json.loads(saved.to_json_best_effort())
    (folder / "config.json").write_text(json.dumps(seals.sealed(plain)))
  rows = [row(t, step) for t in range(1, step + 1)] if rows is None else rows
  lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
  (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
  (folder / "evaluations").mkdir(exist_ok=True)
  for k, changes in enumerate(results):
    result(folder, **{"step": step, "name": f"val_step_{step}_network_0_{k}.json", **changes})
  return folder


def row(t, last):
  found = {"step": t, "time": 1.7e9 + t, "train/loss": 4.0 / t, "train/learning_rate": 0.1}
  found |= {"train/pseudo/kept": 0.5, "train/pseudo/agreement": 0.9, "train/pseudo/accuracy_0": 0.7}
  return found | ({"val/miou": 0.4, "val/iou/road": 0.6} if t == last else {})


def result(folder, *, step=4, name="r.json", miou=0.4, classes=CLASSES, sha=SHA, **changes):
  """Writes a result file; `changes` of its fields, None takes one away."""
  fields = {
    "miou": miou,
    "pixel_accuracy": 0.733,
    "iou": {c: 0.2 + 0.2 * k for k, c in enumerate(classes)},
    "pictures": 9,
    "confusion": CONFUSION,
    "checkpoint_step": step,
    "protocol": {"mode": "whole", "window": None, "stride": None, "network": "0"},
    "split": {"name": "val", "ids": 9, "sha256": sha},
    "dataset": {"name": "made", "fingerprint": "f" * 64},
    "versions": {"semiseg_jax": "0.2.0", "commit": "c" * 40},
    **changes,
  }
  fields = {key: value for key, value in fields.items() if value is not None}
  (folder / "evaluations" / name).write_text(json.dumps(fields))


def keep(folder, name, *, step=4, classes=CLASSES, pictures=3):
  """Keeps pictures for a result; of picture k the first k rows are wrong."""
  found, rng = extremes.Extremes(2, len(classes)), np.random.default_rng(0)
  for k in range(pictures):
    truth = np.zeros((6, 8), np.uint8)
    prediction = truth.copy()
    prediction[:k] = 1
    found.take(Shown(f"p{k}", rng.integers(0, 256, (6, 8, 3), np.uint8), truth, prediction))
  path = extremes.path_of(folder / "evaluations" / name, step)
  extremes.write(path, found, name, classes, COLORS)
