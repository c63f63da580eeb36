"""Watches a long toy run with input workers: memory, file handles, shared memory by the step.

  python -m tests.watch_run --steps=3000 --every=500 --workers=2 [--method=supervised]

Prints a row at each checkpoint: of the main process and of all, resident memory in MB; open files;
blocks and MB of the run in /dev/shm.

The run has one arena of malloc (`--arenas`; 0: as many as usual).  Otherwise each thread that saves
a checkpoint gets memory of its own, which malloc keeps: some 15 MB over the first ten saves, 7 over
the next twenty, whatever the steps between them; nothing of that is held by the run.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import psutil

from tests.kill_runs import command, saved_steps

SHARED = pathlib.Path("/dev/shm")


def blocks(pid: int) -> dict[str, int]:
  """The shared memory of the run of a process: name -> bytes."""
  found = {}
  for path in SHARED.glob(f"*semiseg_{pid}_*"):
    with contextlib.suppress(FileNotFoundError):
      found[path.name] = path.stat().st_size
  return found


def row(step: int, run: psutil.Process) -> str:
  """One line of figures."""
  family = [run, *run.children(recursive=True)]
  resident = [process.memory_info().rss / 1e6 for process in family]
  handles = sum(process.num_fds() for process in family)
  new = blocks(run.pid)
  return (
    f"step {step:5d}  main {resident[0]:6.0f} MB  all {sum(resident):6.0f} MB  "
    f"files {run.num_fds():3d} of {handles:3d}  /dev/shm {len(new):3d} blocks "
    f"{sum(new.values()) / 1e6:6.2f} MB"
  )


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--steps", type=int, default=3000)
  parser.add_argument("--every", type=int, default=500)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--method", default="supervised")
  parser.add_argument("--arenas", type=int, default=1, help="of malloc; 0 = as many as usual")
  options = parser.parse_args()
  told = 0
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder, "run")
    flags = {
      "train.steps": options.steps,
      "checkpoint.every": options.every,
      "eval.every": options.steps,
      "data.workers": options.workers,
      "data.root": f"{folder}/toy_city",
    }
    flags = [f"--config.{key}={value}" for key, value in flags.items()]
    arenas = {"MALLOC_ARENA_MAX": str(options.arenas)} if options.arenas else {}
    with open(workdir.with_suffix(".log"), "wb") as log:
      run = subprocess.Popen(
        command(workdir, f"configs/cps_toy.py:method={options.method}", flags),
        env={**os.environ, **arenas},
        stdout=log,
        stderr=log,
      )
      while run.poll() is None:
        time.sleep(0.1)
        last = max(saved_steps(workdir), default=0)
        if last > told:
          print(row(last, psutil.Process(run.pid)), flush=True)
          told = last
    print(f"exit status {run.returncode}; {len(blocks(run.pid))} blocks left in /dev/shm")
    if run.returncode:
      sys.exit(workdir.with_suffix(".log").read_text()[-2000:])


if __name__ == "__main__":
  main()
