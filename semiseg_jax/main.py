"""Trains: `python -m semiseg_jax.main --config=configs/cps_toy.py --workdir=runs/cps_toy`.

The config comes first and jax after it, because a config may say how XLA is to be started.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment: FILE.py or FILE.py:key=value,...", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; the same one goes on.")
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, or 'auto' on a TPU pod, Slurm, MPI or Kubernetes."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator=host:port.")
_PROCESS = flags.DEFINE_integer("process", None, "With --coordinator=host:port: 0, 1, ...")
_DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Same bits on a GPU; slower.")


def _start_backend(config: Any) -> None:
  """Sets what must be set before jax is imported, then imports it."""
  chosen = [os.environ.get("XLA_FLAGS", "")]
  if os.environ.get("JAX_PLATFORMS") == "cpu" or not os.path.exists("/dev/nvidiactl"):
    chosen.append(config.runtime.cpu_xla_flags)
  if _DETERMINISTIC.value:
    chosen.append("--xla_gpu_exclude_nondeterministic_ops=true")
  os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  import jax

  if _COORDINATOR.value == "auto":
    jax.distributed.initialize()
  elif _COORDINATOR.value:
    jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  if config.runtime.compilation_cache != "off":
    folder = config.runtime.compilation_cache or os.path.join(_WORKDIR.value, "compilation_cache")
    jax.config.update("jax_compilation_cache_dir", os.path.abspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main(argv: Sequence[str]) -> None:
  """Hands the config and the workdir to the loop."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  logging.set_verbosity(logging.WARNING)
  config = _CONFIG.value
  _start_backend(config)
  from semiseg_jax import prepare, train

  prepare.prepare(config)
  train.train(config, _WORKDIR.value)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
