import json
import os
import subprocess
import sys

import jax
import pytest

pytestmark = pytest.mark.slow


def test_four_devices_compute_what_one_does():
  env = {
    **os.environ,
    "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }
  done = subprocess.run(
    [sys.executable, "-m", "tests.models.sharded_network"],
    env=env,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-4000:]
  errors = json.loads(done.stdout.splitlines()[-1])
  assert len(errors) == 6
  assert max(errors.values()) < 1e-9, errors
