"""Runs of a method in stages: killed at chosen moments, each start a process of its own."""

import itertools
import os

import jax

from configs import cps_toy
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.evaluation import reliability
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import forked, small_city

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


def _save_then_die(stage):
  save = Checkpoints.save

  def saved(self, *args, **options):
    save(self, *args, **options)
    if stage in str(self.path):
      self.wait()
      os._exit(9)

  Checkpoints.save = saved


def _counted_then_dies(run, limit):
  count = itertools.count(1)

  def counted(*args, **values):
    returned = run(*args, **values)
    if next(count) == limit:
      os._exit(9)
    return returned

  return counted


def _command(stage, labels, ranks, *flags):
  """Ends the process, as a kill does, at a chosen moment.

  That is when a stage has written its first checkpoint, or after so many stored labels or ranked
  pictures.
  """
  if stage:
    _save_then_die(stage)
  if labels:
    TargetsWriter.add = _counted_then_dies(TargetsWriter.add, labels)
  if ranks:
    reliability.agreement = _counted_then_dies(reliability.agreement, ranks)
  forked.command(*flags)


def run(root, workdir, argument, *, stage="", labels=0, ranks=0, **changes):
  """The command in a process of its own, killed as said; (its exit status, what it said)."""
  settings = {
    **SETTINGS,
    "data.root": root,
    "runtime.compilation_cache": jax.config.jax_compilation_cache_dir,
    **{key.replace("__", "."): value for key, value in changes.items()},
  }
  flags = [f"--config.{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
  flags = [f"--config=configs/cps_toy.py:{argument}", f"--workdir={workdir}", *flags]
  process = forked.Forked(_command, stage, labels, ranks, *flags)
  said = process.communicate()
  return process.returncode, "".join(said)


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
