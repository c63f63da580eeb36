"""Kills a toy run again and again and compares its end, bit for bit, with one left alone.

  python -m tests.kill_runs --kills=20 --method=cps_cutmix [--steps=300] [--seed=0] [--keep=DIR]

Methods: those of configs/cps_toy.py, e.g. mean_teacher, advsemiseg, pixel_contrast_memory,
cps+pixel_contrast_memory; what they start later begins after a tenth of the steps.  Of runs in
stages (self_training) the last stage is compared.  Rows of metrics are compared, but for speeds.
The moments are random, over start, compilation,
cache writes, steps, saves and evaluations: some in the seconds after a start, others once the run
has saved a step that is further on from kill to kill.  Ends with status 1 and names what differs.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from semiseg_jax.evaluation.described import last_stage

REPOSITORY = pathlib.Path(__file__).parents[1]
# Of methods in which something starts later: the key that says when.
STARTS = {
  "advsemiseg": "advsemiseg.semi_start",
  "cac": "cac.start",
  "pixel_contrast": "pixel_contrast.warmup_steps",
  "pixel_contrast_memory": "pixel_contrast.warmup_steps",
  "prevmatch": "prevmatch.every",
  "s4gan": "s4gan.self_training_start",
  "u2pl": "u2pl.supervised_steps",
}
MACHINE = ("speed/", "memory/", "time", "step")  # of rows


def command(workdir: pathlib.Path, config: str, flags: list[str]) -> list[str]:
  """The command line of one start."""
  return [
    sys.executable, "-m", "semiseg_jax.main", f"--config={config}", f"--workdir={workdir}", *flags,
  ]  # fmt: skip


def run(
  workdir: pathlib.Path, config: str, flags: list[str], kill_after: float | None, saved: int = 0
) -> int:
  """Starts the run, and waits for its end or kills it.  Its exit status.

  `kill_after`: so many seconds after a checkpoint of step `saved` or later is there, None: never.
  """
  with open(workdir.with_suffix(".log"), "ab") as log:
    process = subprocess.Popen(
      command(workdir, config, flags), cwd=REPOSITORY, stdout=log, stderr=log
    )
    while process.poll() is None and max(saved_steps(workdir), default=0) < saved:
      time.sleep(0.05)
    try:
      return process.wait(timeout=kill_after)
    except subprocess.TimeoutExpired:
      process.kill()
      return process.wait()


def saved_steps(workdir: pathlib.Path) -> list[int]:
  """The steps of the checkpoints there are, in all stages."""
  folders = [*workdir.glob("checkpoints/[0-9]*"), *workdir.glob("*/checkpoints/[0-9]*")]
  return sorted(int(p.name) for p in folders if p.name.isdigit())


def run_alone(workdir: pathlib.Path, config: str, flags: list[str]) -> tuple[float, float]:
  """Lets a run end; returns the seconds until its first checkpoint and until its end."""
  began, first = time.monotonic(), 0.0
  with open(workdir.with_suffix(".log"), "ab") as log:
    process = subprocess.Popen(
      command(workdir, config, flags), cwd=REPOSITORY, stdout=log, stderr=log
    )
    while process.poll() is None:
      time.sleep(0.2)
      if not first and saved_steps(workdir):
        first = time.monotonic() - began
  if process.returncode:
    sys.exit(f"The run that was left alone failed: {workdir.with_suffix('.log')}")
  return first, time.monotonic() - began


def final_arrays(workdir: pathlib.Path, steps: int) -> dict[str, bytes]:
  """Path of every array of the last checkpoint -> its bytes."""
  folder = last_stage(workdir) / "checkpoints" / str(steps)
  found = {}
  for item in ("model", "train"):
    tree = ocp.PyTreeCheckpointer().restore(folder / item)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      found[item + jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
  return found


def compare(whole: pathlib.Path, broken: pathlib.Path, steps: int) -> list[str]:
  """Names of the arrays that differ."""
  a, b = final_arrays(whole, steps), final_arrays(broken, steps)
  return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def rows(workdir: pathlib.Path) -> dict[int, dict[str, float]]:
  """Step -> what metrics.jsonl says of it last, but for what depends on the machine's speed."""
  found: dict[int, dict[str, float]] = {}
  for line in (last_stage(workdir) / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    values = {key: value for key, value in row.items() if not key.startswith(MACHINE)}
    found.setdefault(row["step"], {}).update(values)
  return found


def compare_rows(whole: pathlib.Path, broken: pathlib.Path) -> list[str]:
  """Steps whose rows differ."""
  a, b = rows(whole), rows(broken)
  return [f"row {step}" for step in sorted(a.keys() | b.keys()) if a.get(step) != b.get(step)]


def main() -> None:
  """Command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--config", default="configs/cps_toy.py")
  parser.add_argument("--method", default="cps_cutmix")
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--keep", help="folder for the two runs, by default a temporary one")
  parser.add_argument("--flag", action="append", default=[], help="passed on, repeatable")
  options = parser.parse_args()
  method, *term = parts = options.method.split("+")
  config = f"{options.config}:method={method}" + "".join(f",add={name}" for name in term)
  flags = [
    f"--config.train.steps={options.steps}", f"--config.checkpoint.every={options.steps // 30}",
    f"--config.eval.every={options.steps // 3}",
  ]  # fmt: skip
  starts = [STARTS[name] for name in parts if name in STARTS]
  flags += [f"--config.method.{key}={options.steps // 10}" for key in starts]
  flags += options.flag
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(options.keep or temporary).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    whole, broken = folder / "whole", folder / "broken"
    first, seconds = run_alone(whole, config, flags)
    print(f"left alone: {seconds:.0f} s, the first checkpoint after {first:.0f} s", flush=True)
    draw, kills, began = random.Random(options.seed), 0, 0
    between = (seconds - first) / 30  # two checkpoints
    while kills < options.kills:
      after_start = draw.random() < 0.3
      goal = 0 if after_start else int(options.steps * (kills + draw.random()) / options.kills)
      moment = draw.uniform(0.2, first if after_start else between)
      status = run(broken, config, flags, moment, goal)
      if status == 0:
        print(f"finished after {kills} kills", flush=True)
        break
      kills += 1
      saved = max(saved_steps(broken), default=0)
      began += saved >= options.steps // 10
      when = "the start" if after_start else f"step {goal} was saved"
      print(f"kill {kills}, {moment:.1f} s after {when}; saved: {saved}", flush=True)
    if run(broken, config, flags, None):
      sys.exit(f"The killed run did not go on: {broken.with_suffix('.log')}")
    different = compare(whole, broken, options.steps) + compare_rows(whole, broken)
    count = len(rows(whole))
  if different:
    sys.exit(f"{len(different)} differ after {kills} kills: {', '.join(different[:10])}")
  late = f", {began} of them after what starts later had begun" if starts else ""
  equal = f"every bit of the last checkpoint and {count} rows are equal."
  print(f"{options.method}: {kills} kills{late}: {equal}")


if __name__ == "__main__":
  main()
