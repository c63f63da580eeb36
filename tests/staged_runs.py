"""Runs of a method in stages: killed at chosen moments, each start a process of its own."""

import os
import pathlib
import subprocess
import sys

import jax

from configs import cps_toy
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city

REPOSITORY = pathlib.Path(__file__).parents[1]
STEPS = 4
SETTINGS = {
  **small_city.FEW_LAYERS,
  "data.prepare": "",
  "data.unlabeled": "all",
  "data.crop": (32, 32),
  "data.workers": 0,
  "train.steps": STEPS,
  "train.batch_labeled": 2,
  "train.batch_unlabeled": 2,
  "train.log_every": 2,
  "eval.pictures": 1,
  "checkpoint.every": 2,
  "runtime.cpu_xla_flags": "",
}

# Ends the process, as a kill does, at a chosen moment: a stage whose first checkpoint is written,
# a number of stored labels, or of ranked pictures.
KILLED = """
import os, sys

_, stage, labels, ranks, *flags = sys.argv
sys.argv = ["main", *flags]

from absl import app
from semiseg_jax import main
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.evaluation import reliability
from semiseg_jax.workdir.checkpoints import Checkpoints

save, add, agreement, count = Checkpoints.save, TargetsWriter.add, reliability.agreement, []

def save_then_die(self, *args, **options):
  save(self, *args, **options)
  if stage in str(self.path):
    self.wait()
    os._exit(9)

def counted(run, limit):
  def run_then_die(*args, **values):
    found = run(*args, **values)
    count.append(1)
    if len(count) == int(limit):
      os._exit(9)
    return found
  return run_then_die

if stage:
  Checkpoints.save = save_then_die
if int(labels):
  TargetsWriter.add = counted(add, labels)
if int(ranks):
  reliability.agreement = counted(agreement, ranks)
app.run(main.main, flags_parser=main.parse_flags)
"""


def run(root, workdir, argument, *, stage="", labels=0, ranks=0, **changes):
  """The command in a process of its own, killed as said; (its exit status, what it said)."""
  settings = {
    **SETTINGS,
    "data.root": root,
    "runtime.compilation_cache": jax.config.jax_compilation_cache_dir,
    **{key.replace("__", "."): value for key, value in changes.items()},
  }
  flags = [f"--config.{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
  ended = subprocess.run(
    [sys.executable, "-c", KILLED, stage, str(labels), str(ranks)]
    + [f"--config=configs/cps_toy.py:{argument}", f"--workdir={workdir}", *flags],
    cwd=REPOSITORY,
    env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    capture_output=True,
    text=True,
    timeout=400,
  )
  return ended.returncode, ended.stdout + ended.stderr


def config(root, argument, **changes):
  """The config of those runs, to be trained in this process."""
  c = cps_toy.get_config(argument)
  changes = {key.replace("__", "."): value for key, value in changes.items()}
  c.update_from_flattened_dict({**SETTINGS, "data.root": str(root), **changes})
  return c


def saved_steps(folder):
  """The steps of the checkpoints of a stage."""
  reader = Checkpoints(folder, read_only=True)
  steps = reader.steps()
  reader.close()
  return steps
