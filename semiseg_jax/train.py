"""The training loop: restore, next batch, step, log, evaluate, checkpoint.

A run is a function of (config, shards, seed): the data position and every random key follow from
the step, so that a run that is killed and started again ends with the same bits.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import sharding
from semiseg_jax.config import rules, schema
from semiseg_jax.data import opening, pipeline, splits
from semiseg_jax.data.augment import families
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.methods.contract import Method
from semiseg_jax.progress import Progress
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment, initial_weights, metrics, summary, validation
from semiseg_jax.training.feed import InParts, Prefetch
from semiseg_jax.training.interrupt import Interrupt
from semiseg_jax.training.log import TrainingLog
from semiseg_jax.training.profiling import CompileClock, Profile
from semiseg_jax.training.train_step import make_train_step
from semiseg_jax.workdir import checkpoints, compilation_cache, provenance, writers
from semiseg_jax.workdir import disk as place

Tree = Any


@dataclasses.dataclass(frozen=True)
class Run:
  """What a config stands for, before anything is computed.

  `dataset` has the pictures that are evaluated, `pool` those of training: the same, or joined with
  a second one of unlabeled pictures.
  """

  config: ConfigDict
  mesh: Mesh
  dataset: Dataset
  pool: Dataset | JoinedDataset
  method: Method
  split: splits.Split
  val: splits.IdList | None
  optimizer: optax.GradientTransformation


def build(config: ConfigDict) -> Run:
  """Builds what `config` describes; every error of the config and of its lists is raised here."""
  rules.validate(config)
  mesh = sharding.make_mesh(config.runtime.replica)
  dataset = opening.open_dataset(config.data)
  pool = opening.open_pool(config.data, dataset)
  info = dataset.info
  method = experiment.make_method(config, mesh, classes=len(info.classes), channels=info.channels)
  rules.check_dataset(config, dataset)
  split, val = _lists(config, method, pool, dataset)
  optimizer = experiment.make_optimizer(config, method)
  return Run(config, mesh, dataset, pool, method, split, val, optimizer)


def train(config: ConfigDict, workdir: str) -> None:
  """Trains what `config` says in `workdir`; goes on where an earlier run of it stopped."""
  started = time.monotonic()
  run = build(config)
  mesh, dataset, pool, method = run.mesh, run.dataset, run.pool, run.method
  split, val, optimizer = run.split, run.val, run.optimizer
  summary.print_start(config, pool, split, val, method, mesh)

  with contextlib.ExitStack() as closing:  # also when something raises: no save, no thread is lost
    clock = CompileClock()
    closing.callback(clock.close)
    state = experiment.initial_state(config, method, optimizer)
    place.check(workdir, checkpoint=place.nbytes(state), keep=config.checkpoint.keep)
    saved = checkpoints.Checkpoints(workdir, keep=config.checkpoint.keep)
    closing.callback(saved.close)
    meta = provenance.describe_run(config, pool, split, val, method)
    restored = saved.restore(state, functools.partial(_check_same_run, meta, workdir))
    if restored is not None:
      state = restored
    elif config.init_from:
      state = initial_weights.start_from(config.init_from, method, state)
    start, last = int(state.step), config.train.steps
    summary.print_position(start, last)
    provenance.write_json(pathlib.Path(workdir) / "config.json", meta["config"])
    writer = writers.create_writer(workdir, resume_step=start)
    closing.callback(writer.close)
    summary.write_parameters(workdir, state)
    writer.write_hparams({k: str(v) for k, v in schema.flat(meta["config"]).items()})
    evaluate = validation.make_evaluate(config, method, dataset, val, meta, workdir, writer)
    step, shapes = jitted_step(run, state)
    batches = device_batches(run, start)
    closing.callback(batches.close)
    progress = Progress(last, start=start)
    closing.callback(progress.close)
    images = sum(stream.batch for stream in method.streams)
    log = TrainingLog(
      config, writer, progress, shapes.__getitem__, batches, images, pool.info.ids, clock
    )
    profile = Profile(workdir, tuple(config.profile_steps))
    closing.callback(profile.close)
    interrupt = closing.enter_context(Interrupt(saved.reached_preemption))

    scored = None
    for t in range(start, last):
      batch = next(batches)
      profile.before(t)
      with jax.transfer_guard("disallow"):  # whatever the step needs is on the devices already
        phase = method.phase(t)
        state, packed = step(state, batch, phase)
      log.take(t, phase, packed, batch)
      profile.after(t, packed)
      done, stop = t + 1, interrupt.asked(t + 1)
      ends = done == last or stop
      due = val is not None and (_due(done, config.eval.every) or done == last)
      saves = due or _due(done, config.checkpoint.every) or ends
      if saves:
        log.check(done, state)  # nothing that is not finite is ever saved
      if _due(done, config.train.log_every) or ends:
        log.write(done)
      if due:
        scored = evaluate(state, done)
      if saves:
        saved.save(state, meta, scored.miou if due else None)
        compilation_cache.seal(pathlib.Path(workdir) / compilation_cache.OWN)
        log.restart_clock()
      if stop:
        break
    if start == last and val is not None:
      scored = evaluate(state, last, again=True)
  if int(state.step) < last:
    logging.warning("Interrupted after step %d: saved. The same command goes on.", state.step)
  else:
    seconds = time.monotonic() - started
    summary.print_end(workdir, scored, seconds=seconds, steps=last - start)


def _check_same_run(now: dict[str, Any], workdir: str, saved: dict[str, Any]) -> None:
  """A key that the older of two configs lacks stands at its default there."""
  completed = [meta | {"config": schema.complete(meta["config"])} for meta in (saved, now)]
  provenance.check_same_run(*completed, workdir, schema.free())


def device_batches(run: Run, start: int) -> Prefetch:
  """The batches from step `start` on, placed on the devices two steps ahead."""
  config, parts = run.config, run.config.train.accumulate
  specs = _stream_specs(config, run.method, run.split)
  source = pipeline.make_batches(
    run.pool,
    [dataclasses.replace(spec, batch=spec.batch // parts) for spec in specs],
    seed=config.seed,
    start_step=start * parts,  # the rows of a batch are those of its parts, in order
    rows=functools.partial(sharding.process_rows, run.mesh),
    workers=config.data.workers,
  )
  put = functools.partial(sharding.put_batch, run.mesh, parts=parts)
  return Prefetch(InParts(source, parts), put)


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0


def _lists(
  config: ConfigDict, method: Method, pool: Dataset | JoinedDataset, dataset: Dataset
) -> tuple[splits.Split, splits.IdList | None]:
  needs_unlabeled = any(s.source == "unlabeled" for s in method.streams)
  split = splits.make_split(
    pool,
    labeled=config.data.labeled,
    unlabeled=config.data.unlabeled if needs_unlabeled else None,
    train=config.data.train,
  )
  if not config.data.val:
    return split, None
  val = splits.resolve(dataset, config.data.val)
  splits.check_disjoint(split.labeled, val)
  if split.unlabeled.ids:
    splits.check_disjoint(split.unlabeled, val)
  return split, val


def _stream_specs(
  config: ConfigDict, method: Method, split: splits.Split
) -> list[pipeline.StreamSpec]:
  ids = {"labeled": split.labeled.ids, "unlabeled": split.unlabeled.ids}
  return [
    pipeline.StreamSpec(
      name=s.name,
      ids=ids[s.source],
      batch=s.batch,
      shuffle_seed_name=s.order,
      augment=families.make_augment(config, s.view),
    )
    for s in method.streams
  ]


def jitted_step(run: Run, state: TrainState) -> tuple[Callable, Tree]:
  """The jitted step (its metrics packed) and a place for the shapes of the metrics, by phase.

  The state keeps its placement (`out_shardings` are its own) and is donated; the batch is placed
  by `put_batch`, rows over `data`; the packed metrics are replicated.
  """
  config = run.config
  plain = make_train_step(run.method, run.optimizer, config.seed, config.train.accumulate)
  shapes: dict[int, Any] = {}

  def step(state: TrainState, batch: Tree, phase: int) -> tuple[TrainState, jax.Array]:
    state, measured = plain(state, batch, phase)
    shapes[phase] = jax.eval_shape(lambda: measured)
    return state, metrics.pack(measured)

  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  jitted = jax.jit(
    step,
    static_argnums=2,
    donate_argnums=0,
    out_shardings=(placed, sharding.replicated(run.mesh)),
  )
  return jitted, shapes
