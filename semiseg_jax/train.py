"""The training loop: restore, next batch, step, log, evaluate, checkpoint.

A run is a function of (config, shards, seed): the data position and every random key follow from
the step, so that a run that is killed and started again ends with the same bits.
"""

import contextlib
import functools
import pathlib
import sys
import time
import types
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from semiseg_jax import baseline, continuing, leftovers, notebook, seals
from semiseg_jax.config import reads, rules, schema
from semiseg_jax.data import shard_digests
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import Stage
from semiseg_jax.progress import Progress
from semiseg_jax.reporting import writing
from semiseg_jax.training import (
  compiling,
  derived,
  experiment,
  fixed_nets,
  initial_weights,
  stages,
  summary,
  validation,
)
from semiseg_jax.training import run as runs
from semiseg_jax.training.estimate import Estimate, evaluation_cost
from semiseg_jax.training.interrupt import Interrupt
from semiseg_jax.training.log import TrainingLog
from semiseg_jax.training.profiling import CompileClock, Profile
from semiseg_jax.training.run import Run
from semiseg_jax.training.train_step import jitted_step
from semiseg_jax.workdir import (
  checkpoints,
  compilation_cache,
  provenance,
  run_lock,
  store,
  trackers,
  writers,
)
from semiseg_jax.workdir import disk as place

Tree = Any


def build(config: ConfigDict, *, stage: bool = False) -> Run:
  """Builds what `config` describes; every error of the config and of its lists is raised here.

  Args:
    config: of a run, or as `stage_configs` gives it.
    stage: whether it is that of a stage.
  """
  rules.validate(config, stage=stage)
  run = runs.build(config)
  rules.check_dataset(run.config, run.dataset)
  return run


def train(config: ConfigDict, workdir: str) -> None:
  """Trains what `config` says in `workdir`; goes on where an earlier run of it stopped.

  Args:
    config: of the run.
    workdir: a folder, or gs://bucket/run, s3://bucket/run.

  Raises:
    UserError: one of its kinds; of them ConfigError where another process trains there.
  """
  with store.opened(workdir, owns=True) as folder, run_lock.held(folder):
    _train(config, folder)


def _train(config: ConfigDict, workdir: str) -> None:
  config = derived.recalled(config, workdir)
  rules.validate(config)
  parts = contract.stages(config)
  stages.check_folder(workdir, staged=bool(parts))
  leftovers.clear(workdir, deep=True)
  if parts and store.of(workdir) and jax.process_count() > 1:
    raise ConfigError(
      f"{workdir}: all processes read what the stages of a run hand on: in a store one process "
      "runs them; several need a --workdir on a disk that all of them see."
    )
  if config.train.baseline and not _train_baseline(config, workdir):
    return
  complete = _train_stages(parts, config, workdir) if parts else train_once(config, workdir)
  if complete:
    writing.at_end(workdir)
  if complete and config.train.baseline:
    baseline.compare(config, workdir)
    compilation_cache.seal(pathlib.Path(workdir) / compilation_cache.OWN)


def _train_baseline(config: ConfigDict, workdir: str) -> bool:
  """Trains the labels alone, and returns whether that run is complete."""
  runs.check_lists(config)  # also what only the other part reads, before hours are spent
  folder = baseline.folder_of(workdir)
  if jax.process_index() == 0:
    print(f"Part 1 of 2: the labels alone, in {store.named(folder)}.", flush=True)
  complete = train_once(baseline.config_of(config), folder)
  compilation_cache.seal(pathlib.Path(workdir) / compilation_cache.OWN)  # it is of both parts
  if complete and jax.process_index() == 0:
    print(f"\nPart 2 of 2: with the unlabeled pictures, in {store.named(workdir)}.", flush=True)
  return complete


def _train_stages(parts: Sequence[Stage], config: ConfigDict, workdir: str) -> bool:
  parts = continuing.keep_stages(parts, config.train.steps, workdir)
  trained = _of_stages(parts, config, workdir)
  for staged in trained:
    rules.validate(staged, stage=True)
  runs.check_lists(config)
  # What comes after a stage may read what its training does not: the unlabeled pictures.
  whole = [stages.staged(config, stage, workdir) for stage in parts]
  once = functools.partial(train_once, stage=True)
  return stages.run(parts, trained, whole, workdir, once)


def stage_configs(config: ConfigDict, workdir: str) -> list[ConfigDict]:
  """Returns the config that each stage is trained with; of a run of one stage its own."""
  return _of_stages(contract.stages(config), config, workdir) or [config]


def _of_stages(parts: Sequence[Stage], config: ConfigDict, workdir: str) -> list[ConfigDict]:
  return [reads.only_read(stages.staged(config, stage, workdir)) for stage in parts]


def train_once(
  config: ConfigDict, workdir: str, last_stage: bool = True, *, stage: bool = False
) -> bool:
  """Trains a run of one stage, and returns whether it is complete.

  A complete run that is started again returns at once, unless its last checkpoint or its evaluation
  is not there; one whose `train.steps` were raised goes on.
  """
  started = time.monotonic()
  if last_stage:
    config = continuing.extended(config, workdir)
  run = build(config, stage=stage)
  config = run.config
  mesh, dataset, pool, method = run.mesh, run.dataset, run.pool, run.method
  split, val, optimizer = run.split, run.val, run.optimizer
  summary.print_start(config, pool, split, val, method, mesh, run.normalization)
  if _is_done(run, workdir, last_stage):
    return True

  with contextlib.ExitStack() as closing:  # also when something raises: no save, no thread is lost
    closing.enter_context(run_lock.held(workdir))  # of a stage its own folder, too
    shard_digests.compare(shard_digests.folders(pool, run.targets), workdir)
    clock = CompileClock()
    closing.callback(clock.close)
    state = experiment.initial_state(config, method, optimizer)
    place.check(workdir, checkpoint=place.nbytes(state), keep=place.kept(config.checkpoint))
    spaced = checkpoints.spaced_steps(config.train.steps, config.checkpoint.spaced)
    saved = checkpoints.Checkpoints(workdir, keep=config.checkpoint.keep, always=spaced)
    closing.callback(saved.close)
    nets = experiment.describe_nets(method, experiment.evaluated(config, method))
    fixed = fixed_nets.describe(method, state.fixed)
    lists = {**split.lists(), "val": val}
    targets = run.targets and run.targets.info.describe()
    meta = provenance.describe_run(config, pool, lists, nets, fixed, targets)
    restored = saved.restore(state, functools.partial(_check_same_run, meta, workdir))
    if restored is not None:
      state = restored
    elif config.init_from:
      state = initial_weights.start_from(config.init_from, method, state)
    start, last = int(state.step), config.train.steps
    summary.print_position(start, last)
    provenance.write_json(pathlib.Path(workdir) / "config.json", seals.sealed(meta["config"]))
    told = {k: schema.plain(v) for k, v in schema.flat(meta["config"]).items()}
    tracked = trackers.Tracked(config.runtime.track, told, schema.free(), last)
    writer = writers.create_writer(workdir, resume_step=start, tracked=tracked)
    closing.callback(writer.close)
    summary.write_parameters(workdir, state)
    writer.write_hparams({k: str(v) for k, v in schema.flat(meta["config"]).items()})
    evaluate = validation.make_evaluate(config, method, dataset, val, meta, workdir, writer)
    evaluate = validation.Sheltered(evaluate, workdir)
    step, shapes = jitted_step(run.method, run.optimizer, config, state)
    step = compiling.Announced(step, config, workdir)
    batches = runs.device_batches(run, start)
    closing.callback(batches.close)
    progress = Progress(last, start=start)
    closing.callback(progress.close)
    images = sum(stream.batch for stream in method.streams)
    log = TrainingLog(
      config,
      writer,
      progress,
      shapes.__getitem__,
      batches,
      images,
      pool.info.ids,
      pool.info.classes,
      clock,
    )
    if restored is not None:
      log.recall(saved.meta(start).get("row") or {"sums": {}, "counts": {}})
    profile = Profile(workdir, tuple(config.profile_steps))
    closing.callback(profile.close)
    cost = evaluation_cost(config, method, dataset, val)
    estimate = Estimate(config, start, cost, stage)
    pushes = store.Pushes(workdir, saved.wait)
    closing.callback(pushes.close)
    interrupt = closing.enter_context(Interrupt(saved.reached_preemption))

    scored = None
    for t in range(start, last):
      batch = next(batches)
      profile.before(t)
      with jax.transfer_guard("disallow"):  # whatever the step needs is on the devices already
        phase = method.phase(t)
        state, packed = step(state, batch, phase)
      log.take(t, phase, packed, batch)
      estimate.take(t, phase, packed)
      profile.after(t, packed)
      done, stop = t + 1, interrupt.asked(t + 1)
      ends = done == last or stop
      due = val is not None and (_due(done, config.eval.every) or done == last)
      saves = due or _due(done, config.checkpoint.every) or done in spaced or ends
      if saves:
        log.check(done, state)  # nothing that is not finite is ever saved
      if _due(done, config.train.log_every) or done == last:
        log.write(done)
      if due:
        scored = evaluate(state, done)
      if saves:
        run_lock.check()  # the folder is still this run's
        miou = scored.miou if due and scored else None
        pushes.finish()
        saved.save(state, {**meta, "row": log.kept()}, miou, step=done)
        pushes.begin(done)
        compilation_cache.seal(pathlib.Path(workdir) / compilation_cache.OWN)
        log.restart_clock()
      if stop:
        break
    if start == last and val is not None and last_stage:
      scored = evaluate(state, last, again=True)
  store.push(workdir)  # before anything is made of the last checkpoint
  complete = int(state.step) == last
  if not complete:
    logging.warning("Interrupted after step %d: saved. The same command goes on.", state.step)
  else:
    seconds = time.monotonic() - started
    segments = not getattr(method.module, "CLASSIFIES", False)
    summary.print_end(workdir, scored, seconds=seconds, steps=last - start, segments=segments)
    evaluate.check()
  return complete


def _check_same_run(now: dict[str, Any], workdir: str, saved: dict[str, Any]) -> None:
  """A key that the older of two configs lacks stands at its default there."""
  old, new = (meta | {"config": schema.complete(meta["config"])} for meta in (saved, now))
  old["config"] = continuing.as_now(old["config"], new["config"])
  provenance.check_same_run(old, new, workdir, schema.free())


def _is_done(run: Run, workdir: str, last_stage: bool) -> bool:
  """Whether a run is complete and evaluated, which is said; several processes restore it to see."""
  config, found = run.config, checkpoints.newest(workdir)
  if found is None or found[0] != config.train.steps or jax.process_count() > 1:
    return False
  step, saved = found
  targets = run.targets and run.targets.info.describe()
  lists = {**run.split.lists(), "val": run.val}
  fixed = fixed_nets.describe(run.method, fixed_nets.read(run.method))
  now = provenance.describe_run(config, run.pool, lists, {}, fixed, targets)
  _check_same_run(now, workdir, saved)
  evaluation = ""
  if run.val is not None:
    how = validation.protocol_of(run.method, config)
    evaluation = continuing.result(workdir, step, how.as_dict(), run.val.sha256)
  if evaluation is None or not checkpoints.is_whole(workdir, step, saved):
    return False
  continuing.print_done(config, workdir, evaluation, last_stage)
  return True


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0


class _Called(types.ModuleType):
  """This module, which is `semiseg_jax.train(config, workdir)` too."""

  def __call__(self, config: ConfigDict | str, workdir: str, *changes: str) -> notebook.Result:
    return notebook.run(train, config, workdir, *changes)


sys.modules[__name__].__class__ = _Called
