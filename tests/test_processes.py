"""Two processes of two devices each: the same run as one process with one device."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from semiseg_jax.evaluation import inference
from semiseg_jax.workdir import checkpoints
from tests import small_city

pytestmark = pytest.mark.slow

REPOSITORY = pathlib.Path(__file__).parents[1]
SETTINGS = {
  **small_city.FEW_LAYERS,
  "data.prepare": "",
  "data.labeled": "labeled_1_4",
  "data.crop": "(32,32)",
  "train.steps": 3,
  "train.batch_labeled": 4,
  "train.batch_unlabeled": 4,
  "train.log_every": 1,
  "eval.batch": 3,
  "eval.pictures": 1,
  "runtime.cpu_xla_flags": "",
}


def _start(root, workdir, *flags, devices, variables=None, method="cps_cutmix", **changes):
  settings = SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
  settings |= {
    "data.root": root,
    "runtime.compilation_cache": jax.config.jax_compilation_cache_dir,
  }
  count = f" --xla_force_host_platform_device_count={devices}"
  return subprocess.Popen(
    [sys.executable, "-m", "semiseg_jax.main"]
    + [f"--config=configs/cps_toy.py:method={method}", f"--workdir={workdir}", *flags]
    + [f"--config.{key}={str(value).replace(' ', '')}" for key, value in settings.items()],
    cwd=REPOSITORY,
    env={**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"] + count, **(variables or {})},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(*processes):
  for process in processes:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output


def _rows(workdir):
  merged = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
  return {(r["step"], k): v for r in merged for k, v in r.items()}


def _pair(root, workdir, *, by_environment=False, **changes):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  found = []
  for i in range(2):
    flags, variables = [f"--coordinator={address}", "--processes=2", f"--process={i}"], {}
    if by_environment:
      names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
      flags, variables = [], dict(zip(names, (address, "2", str(i))))
    found.append(_start(root, workdir, *flags, devices=2, variables=variables, **changes))
  return found


def test_two_processes_equal_one(tmp_path):
  root, one, two = (tmp_path / name for name in ("data", "one", "two"))
  small_city.write(root)
  often = {"checkpoint__every": 1, "checkpoint__keep": 3}
  _finish(*_pair(root, two, **often))
  _finish(_start(root, one, devices=1, **often))

  expected, found = _rows(one), _rows(two)
  assert expected.keys() >= found.keys()
  for (step, key), value in found.items():
    if key.startswith(("train/loss", "train/supervised", "train/cps")):
      np.testing.assert_allclose(value, expected[step, key], rtol=1e-5 if step == 1 else 2e-3)
  np.testing.assert_allclose(found[3, "val/miou"], expected[3, "val/miou"], atol=0.02)

  # Begun by one process, ended by two, and the other way round.
  for begun, name in ((one, "one_two"), (two, "two_one")):
    shutil.copytree(begun / "checkpoints" / "2", tmp_path / name / "checkpoints" / "2")
  _finish(*_pair(root, tmp_path / "one_two", by_environment=True))
  _finish(_start(root, tmp_path / "two_one", devices=1))
  for name in ("one_two", "two_one"):
    rows = _rows(tmp_path / name)
    assert (2, "train/loss") not in rows, "it began again"
    np.testing.assert_allclose(rows[3, "train/loss"], expected[3, "train/loss"], rtol=2e-3)

  # Written by two processes, read by one.
  params = [inference.load_trained(workdir).params for workdir in (one, two)]
  for a, b in zip(*map(jax.tree.leaves, params)):
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_ctrl_c_in_one_process_saves_and_ends_both(tmp_path):
  """It is passed on as SIGTERM, which the processes tell each other."""
  root, workdir = tmp_path / "data", tmp_path / "run"
  small_city.write(root)
  changes = {"train__steps": 100_000, "checkpoint__every": 2, "data__val": ""}
  pair = _pair(root, workdir, method="supervised", **changes)
  deadline = time.monotonic() + 240
  while not list((workdir / "checkpoints").glob("[0-9]*")):
    assert time.monotonic() < deadline and all(p.poll() is None for p in pair)
    time.sleep(0.05)
  pair[1].send_signal(signal.SIGINT)
  outputs = [process.communicate(timeout=120)[0] for process in pair]
  assert [process.returncode for process in pair] == [130, 130], outputs
  (step,) = {int(re.search(r"Interrupted after step (\d+)", text)[1]) for text in outputs}
  assert checkpoints.Checkpoints(workdir, read_only=True).steps()[-1] == step
