"""Trains: `python -m semiseg_jax.main --config=configs/cps_toy.py --workdir=runs/cps_toy`.

    ... --config=configs/cps_toy.py:method=unimatch --config.train.steps=3000 --config.seed=1

`python -m semiseg_jax.config` lists every key that --config.KEY=VALUE may set; with --config=... it
prints those of an experiment.  What may stand behind the colon is said at the top of the file.

The config comes first and the backend of jax after it: a config may say how XLA is to be started.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from semiseg_jax import console, machine, peers, signals
from semiseg_jax.config import command_line
from semiseg_jax.errors import ending, refuse

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment: FILE.py or FILE.py:key=value,...", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder, gs://... or s3://... of this run; the same one goes on."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, or 'auto' on a TPU pod, Slurm, MPI or Kubernetes."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Their number, with --coordinator=host:port.")
_PROCESS = flags.DEFINE_integer("process", None, "With --coordinator=host:port: 0, 1, ...")
_DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Same bits on a GPU; slower.")
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Build and compile, print shapes, memory and schedule, draw a batch, and stop."
)

_OUT_OF_MEMORY = (
  "a device ran out of memory. Smaller: --config.train.batch_labeled, .train.batch_unlabeled, "
  ".data.crop, .eval.batch, .eval.window. The same recipe in less memory: "
  "--config.train.accumulate=2 (or more), --config.model.remat=blocks, "
  "--config.model.dtype=bfloat16, more devices, --config.runtime.replica=2. --dry_run says what a "
  "step needs."
)

_HOST_OUT_OF_MEMORY = (
  "this machine ran out of memory. Smaller: --config.data.workers, --config.train.batch_labeled, "
  ".train.batch_unlabeled, .data.crop, .eval.batch; or end other programs."
)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Returns the positional arguments; wrong values end with one line on stderr and status 2."""
  positional = command_line.parse(argv, _CONFIG, "main")
  command_line.check_words(positional, "main")
  needed = {"--config=FILE.py": _CONFIG.value, "--workdir=FOLDER": _WORKDIR.value}
  absent = [flag for flag, value in needed.items() if not value]
  if absent:
    refuse(
      f"main: {' and '.join(absent)} needed, such as --config=configs/cps_toy.py "
      "--workdir=runs/cps_toy; --help says more."
    )
  return positional


def _start_backend(config: Any) -> None:
  """Sets what must be set before jax is imported, then imports it."""
  chosen = [os.environ.get("XLA_FLAGS", "")]
  if machine.only_cpu() and config.runtime.cpu_xla_flags:
    wrong = [f for f in config.runtime.cpu_xla_flags.split() if not f.startswith("--xla_")]
    if wrong:  # at these XLA ends the process with a signal
      refuse(
        f"main: runtime.cpu_xla_flags: {wrong[0]!r}: XLA's flags are written --xla_NAME=VALUE."
      )
    refused = machine.refused_flags(config.runtime.cpu_xla_flags)
    if refused:
      refuse(
        f"main: runtime.cpu_xla_flags={config.runtime.cpu_xla_flags!r}: {refused}. Give flags of "
        "the installed jaxlib, or none."
      )
    chosen.append(config.runtime.cpu_xla_flags)
  if _DETERMINISTIC.value:
    chosen.append("--xla_gpu_exclude_nondeterministic_ops=true")
  os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  _give_threads_to_simulated_devices()

  _join_processes()


def _start_cache(config: Any, workdir: str) -> None:
  if config.runtime.compilation_cache != "off":
    from semiseg_jax.workdir import compilation_cache

    own = os.path.join(workdir, compilation_cache.OWN)
    folder = config.runtime.compilation_cache
    compilation_cache.start(folder or own, own=not folder)


def _give_threads_to_simulated_devices() -> None:
  """XLA has a thread per core: simulated devices that wait for each other need more, or hang."""
  found = re.findall(r"--xla_force_host_platform_device_count=(\d+)", os.environ["XLA_FLAGS"])
  if found:
    os.environ.setdefault("NPROC", str(4 * int(found[-1])))


def _join_processes() -> None:
  """Finds the other processes: by the flags, the environment, or what the cluster says."""
  import jax

  coordinator = _COORDINATOR.value or os.environ.get("JAX_COORDINATOR_ADDRESS")
  address: tuple = ()
  if coordinator and coordinator != "auto":
    processes = _number(_PROCESSES.value, "processes", "JAX_NUM_PROCESSES")
    process = _number(_PROCESS.value, "process", "JAX_PROCESS_ID")
    if not re.fullmatch(r".+:\d+", coordinator):
      refuse(f"main: --coordinator={coordinator}: write host:port, or auto.")
    if not 0 <= process < processes:
      refuse(f"main: --process={process}: 0 to {processes - 1}, as --processes says.")
    address = (coordinator, processes, process)
  if coordinator:
    peers.watch_stderr("main")
    try:
      jax.distributed.initialize(*address, heartbeat_timeout_seconds=peers.HEARTBEAT_S)
    except (RuntimeError, ValueError) as error:  # no cluster, a wrong address, a port that is taken
      raise SystemExit(
        f"main: --coordinator={coordinator}: the processes do not find each other "
        f"({' '.join(str(error).split())[:300]}). Start all of them, with one address and numbers "
        "of their own."
      ) from error


def _number(flag: int | None, name: str, variable: str) -> int:
  if flag is not None:
    return flag
  text = os.environ.get(variable, "")
  if not text.isdigit():
    refuse(f"main: give --{name} (or {variable}) with --coordinator=host:port.")
  return int(text)


def _run(config: Any, workdir: str) -> None:
  import jax

  from semiseg_jax import memory, train
  from semiseg_jax.config import rules
  from semiseg_jax.training import dry_run, prepare

  try:
    with ending("main", workdir):
      rules.validate(config)
      prepare.prepare(config)
      if _DRY_RUN.value:
        dry_run.dry_run(train.build(train.stage_configs(config, workdir)[0]), workdir)
      else:
        train.train(config, workdir)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if not memory.is_exhausted(error):
      raise
    mend = _HOST_OUT_OF_MEMORY if isinstance(error, MemoryError) else _OUT_OF_MEMORY
    said = str(error).partition("\n")[0]
    raise SystemExit(f"main: {mend}" + (f" ({said})" if said else "")) from error


def main(argv: Sequence[str]) -> None:
  """Hands the config and the workdir to the loop."""
  del argv  # only the name of the program
  console.prepare()
  config = _CONFIG.value
  with peers.leaving("main"), signals.answered() as watch, ending("main", _WORKDIR.value):
    _start_backend(config)
    from semiseg_jax.workdir import run_lock, store

    with store.opened(_WORKDIR.value, owns=not _DRY_RUN.value) as workdir:
      with run_lock.held(workdir):  # also the cache in it is of one run
        _start_cache(config, workdir)
        _run(config, workdir)
  if watch.received:  # 130 after Ctrl-C, 143 after SIGTERM
    raise SystemExit(128 + watch.received[0])


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
