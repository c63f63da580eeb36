"""A run that is killed and started again ends with the same bits as one that is not."""

import json
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import forked, small_city

pytestmark = pytest.mark.slow

STEPS = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


def _start(root, workdir):
  overrides = {
    **small_city.FEW_LAYERS,
    "data.root": root,
    "data.prepare": "",
    "data.labeled": "labeled_1_4",
    "data.crop": "(32,32)",
    "train.steps": STEPS,
    "train.batch_labeled": 2,
    "train.batch_unlabeled": 2,
    "train.log_every": 5,
    "eval.every": 20,
    "eval.pictures": 1,
    "checkpoint.every": 5,
    "runtime.cpu_xla_flags": "",
    "runtime.compilation_cache": jax.config.jax_compilation_cache_dir,
  }
  flags = [f"--config.{key}={str(value).replace(' ', '')}" for key, value in overrides.items()]
  return forked.Forked(
    forked.command, "--config=configs/cps_toy.py", f"--workdir={workdir}", *flags
  )


def _wait_for_step(process, workdir, step):
  deadline = time.monotonic() + 240
  while time.monotonic() < deadline:
    done = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    if done and max(done) >= step:
      return
    if process.poll() is not None:
      pytest.fail(f"ended before step {step}:\n{process.communicate()}")
    time.sleep(0.02)
  pytest.fail(f"no checkpoint of step {step} in time")


def _arrays(workdir):
  folder = workdir / "checkpoints" / str(STEPS)
  return {item: ocp.PyTreeCheckpointer().restore(folder / item) for item in ("model", "train")}


def _without_time(row):
  """What of a row does not depend on the machine."""
  return {k: v for k, v in row.items() if k != "time" and not k.startswith(("speed/", "memory/"))}


def test_sigterm_and_sigkill_change_no_bit(root, tmp_path):
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  process = _start(root, whole)
  output = process.communicate(timeout=400)
  assert process.returncode == 0, output

  process = _start(root, broken)
  _wait_for_step(process, broken, 5)
  process.send_signal(signal.SIGTERM)
  output = process.communicate(timeout=120)
  assert process.returncode == 143 and "same command goes on" in "".join(output), output

  process = _start(root, broken)
  _wait_for_step(process, broken, 25)
  process.kill()
  process.communicate()
  assert not (broken / "checkpoints" / str(STEPS)).exists()

  process = _start(root, broken)
  output = process.communicate(timeout=400)
  assert process.returncode == 0, output

  expected, found = _arrays(whole), _arrays(broken)
  assert jax.tree.structure(expected) == jax.tree.structure(found)
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  rows = [
    [json.loads(x) for x in (w / "metrics.jsonl").read_text().splitlines()] for w in (whole, broken)
  ]
  steps = [[r["step"] for r in each if "train/loss" in r] for each in rows]
  assert steps[1] == sorted(set(steps[1])) and steps[1][-1] == STEPS
  said = [[_without_time(row) for row in each] for each in rows]
  assert said[0] == said[1]
