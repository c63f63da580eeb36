"""A run in a store that is killed while it sends a checkpoint has the bits of one on a disk."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from semiseg_jax.workdir import store
from semiseg_jax.workdir.mirror import MARK
from semiseg_jax.workdir.objects import Objects
from tests import emulators, small_city

pytestmark = [pytest.mark.slow, pytest.mark.extras]

REPOSITORY = pathlib.Path(__file__).parents[1]
STEPS = 12


@pytest.fixture(params=("s3",))
def url(request, monkeypatch):
  if package := emulators.missing(request.param):
    pytest.skip(f"{package} is not installed")
  with emulators.running(request.param) as variables:
    for name in variables.keys() - os.environ.keys():
      monkeypatch.setenv(name, variables[name])
    yield f"{request.param}://{emulators.BUCKET}/run"


def _start(root, workdir):
  settings = {
    **small_city.FEW_LAYERS,
    "data.root": root,
    "data.prepare": "",
    "data.labeled": "labeled_1_4",
    "data.crop": "(32,32)",
    "train.steps": STEPS,
    "train.batch_labeled": 2,
    "train.log_every": 4,
    "eval.every": 8,
    "eval.pictures": 1,
    "checkpoint.every": 4,
    "runtime.cpu_xla_flags": "",
    "runtime.compilation_cache": jax.config.jax_compilation_cache_dir,
  }
  return subprocess.Popen(
    [sys.executable, "-m", "semiseg_jax.main", f"--workdir={workdir}"]
    + ["--config=configs/cps_toy.py:method=supervised"]
    + [f"--config.{key}={str(value).replace(' ', '')}" for key, value in settings.items()],
    cwd=REPOSITORY,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(process):
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


def _end(workdir):
  """The arrays of the last checkpoint and the rows, but for times."""
  with store.opened(workdir, writes=False) as folder:
    last = pathlib.Path(folder).absolute() / "checkpoints" / str(STEPS)
    store.fetch(last)
    trees = [ocp.PyTreeCheckpointer().restore(last / item) for item in ("model", "train")]
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
  rows = [
    {k: v for k, v in json.loads(line).items() if not k.startswith(("time", "speed"))}
    for line in lines
  ]
  return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)], rows


def _kill_while_it_sends(process, objects, step):
  deadline = time.monotonic() + 240
  while not any(name.startswith(f"checkpoints/{step}/") for name in objects.list()):
    assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
  process.kill()
  process.communicate()


def test_a_run_that_is_killed_while_it_sends_a_checkpoint(url, tmp_path):
  root, disk, objects = tmp_path / "data", tmp_path / "disk", Objects(url)
  small_city.write(root)
  _finish(_start(root, disk))
  _kill_while_it_sends(_start(root, url), objects, 8)
  marks = {name for name in objects.list() if name.endswith(MARK)}
  assert f"checkpoints/4/{MARK}" in marks
  said = _finish(_start(root, url))
  assert "goes on after step" in said and f"{url}/evaluations" in said

  (expected, rows), (found, again) = _end(disk), _end(url)
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_array_equal(a, b)
  assert rows == again
  left = [name for name in objects.list() if name.startswith("checkpoints/")]
  whole = {name.split("/")[1] for name in left if name.endswith(MARK)}
  assert {name.split("/")[1] for name in left} == whole, "something half-written is left"
