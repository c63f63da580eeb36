"""The training loop: restore, next batch, step, log, evaluate, checkpoint.

A run is a function of (config, shards, seed): the data position and every random key follow from
the step, so that a run that is killed and started again ends with the same bits.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from semiseg_jax import (
  checkpoints,
  experiment,
  inference,
  initial_weights,
  metrics,
  optimizers,
  sharding,
  summary,
  validate,
  writers,
)
from semiseg_jax.data import augment, pipeline, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.evaluation import confusion, pictures, run, windows
from semiseg_jax.feed import Prefetch
from semiseg_jax.interrupt import Interrupt
from semiseg_jax.methods.contract import Method
from semiseg_jax.progress import Progress
from semiseg_jax.train_state import TrainState, make_train_step

Tree = Any


class NonFiniteError(RuntimeError):
  """The loss or a gradient was not a finite number; the last good checkpoint is kept."""


def train(config: ConfigDict, workdir: str) -> None:
  """Trains what `config` says in `workdir`; goes on where an earlier run of it stopped."""
  started = time.monotonic()
  validate.validate(config)
  mesh = sharding.make_mesh(config.runtime.replica)
  dataset = Dataset.open(config.data.root)
  info = dataset.info
  method = experiment.make_method(config, mesh, classes=len(info.classes), channels=info.channels)
  validate.check_dataset(config, dataset)
  split, val = _lists(config, method, dataset)
  optimizer = experiment.make_optimizer(config)
  summary.print_start(config, dataset, split, val, method, mesh)

  saved = checkpoints.Checkpoints(workdir, keep=config.checkpoint.keep)
  state = experiment.initial_state(config, method, optimizer)
  restored = saved.restore(state)
  if restored is not None:
    state = restored
  elif config.init_from:
    state = initial_weights.start_from(config.init_from, method, state)
  start = int(state.step)
  meta = _meta(config, dataset, split, val, method)
  _write_json(pathlib.Path(workdir) / "config.json", meta["config"])
  writer = writers.create_writer(workdir, resume_step=start)
  writer.write_hparams(_flat(config))

  batches = Prefetch(
    pipeline.make_batches(
      dataset,
      _stream_specs(config, method, split),
      seed=config.seed,
      start_step=start,
      rows=functools.partial(sharding.process_rows, mesh),
      workers=config.data.workers,
    ),
    functools.partial(sharding.put_batch, mesh),
  )
  step, shapes = _compiled_step(config, method, optimizer, state)
  evaluate = _evaluator(config, method, dataset, val, workdir, writer)
  log = _Log(config, writer, shapes, batches, images=sum(s.batch for s in method.streams))
  interrupt = Interrupt()
  progress = Progress(config.train.steps, start=start)
  log.progress = progress

  miou, last = None, config.train.steps
  for t in range(start, last):
    batch = next(batches)
    state, packed = step(state, batch, method.phase(t))
    log.read_previous(t, packed, batch)
    done = t + 1
    stop = interrupt.asked
    if done % config.train.log_every == 0 or done == last or stop:
      log.write(done)
    miou = None
    if val and (_due(done, config.eval.every) or done == last):
      miou = evaluate(state, done)
    if _due(done, config.checkpoint.every) or miou is not None or done == last or stop:
      log.check_current()
      saved.save(state, meta, miou)
    if stop and done < last:
      saved.close()
      progress.close()
      batches.close()
      writer.close()
      logging.warning("Interrupted after step %d: saved. The same command goes on.", done)
      return
  progress.close()
  batches.close()
  saved.wait()
  if start >= last and val:
    evaluate(state, last)
  summary.print_end(config, workdir, saved, seconds=time.monotonic() - started, start=start)
  saved.close()
  writer.close()


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0


def _lists(
  config: ConfigDict, method: Method, dataset: Dataset
) -> tuple[splits.Split, splits.IdList | None]:
  needs_unlabeled = any(s.source == "unlabeled" for s in method.streams)
  split = splits.make_split(
    dataset,
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
  transform = functools.partial(
    augment.random_flip_scale_crop,
    crop=tuple(config.data.crop),
    scales=tuple(config.data.scales),
    flip=config.data.flip,
    compat=tuple(config.data.compat),
  )
  ids = {"labeled": split.labeled.ids, "unlabeled": split.unlabeled.ids}
  return [
    pipeline.StreamSpec(
      name=s.name,
      ids=ids[s.source],
      batch=s.batch,
      shuffle_seed_name=s.order,
      augment=transform,
    )
    for s in method.streams
  ]


def _compiled_step(
  config: ConfigDict, method: Method, optimizer: Any, state: TrainState
) -> tuple[Callable, Tree]:
  """The jitted step (its metrics packed) and a place for the shapes of the metrics.

  The state keeps its placement (`out_shardings` are its own) and is donated; the batch is placed
  by `put_batch`, rows over `data`; the packed metrics are replicated.
  """
  plain = make_train_step(method, optimizer, config.seed)
  shapes: dict[str, Any] = {}

  def step(state: TrainState, batch: Tree, phase: int) -> tuple[TrainState, jax.Array]:
    state, measured = plain(state, batch, phase)
    shapes.update(jax.eval_shape(lambda: measured))
    return state, metrics.pack(measured)

  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  mesh = next(iter(method.stacks.values())).mesh
  jitted = jax.jit(
    step,
    static_argnums=2,
    donate_argnums=0,
    out_shardings=(placed, sharding.replicated(mesh)),
  )
  return jitted, shapes


class _Log:
  """Reads the metrics one step late, so that the device never waits for the host."""

  def __init__(self, config: ConfigDict, writer: Any, shapes: Tree, batches: Prefetch, images: int):
    self._config, self._writer, self._shapes = config, writer, shapes
    self._batches, self._images = batches, images
    self._averages: metrics.Averages | None = None
    self._pending: tuple[int, jax.Array, Tree] | None = None
    self._since = time.monotonic()
    self._steps, self._waited = 0, 0.0
    self.progress: Progress | None = None

  def read_previous(self, t: int, packed: jax.Array, batch: Tree) -> None:
    """Takes the metrics of step t and reads those of step t - 1."""
    self.check_current()
    self._pending = (t, packed, {name: stream["index"] for name, stream in batch.items()})

  def check_current(self) -> None:
    """Reads what is pending; raises NonFiniteError where it was not finite."""
    if self._pending is None:
      return
    t, packed, index = self._pending
    self._pending = None
    if self._averages is None:
      self._averages = metrics.Averages(self._shapes)
      self._since = time.monotonic()  # the first step compiled: it is no measure of speed
    else:
      self._steps += 1
    now = self._averages.add(np.asarray(packed))
    if now["finite"] < 1:
      ids = {name: np.asarray(rows).tolist() for name, rows in index.items()}
      raise NonFiniteError(
        f"Step {t} gave a loss or a gradient that is not finite; the checkpoint before it is "
        f"kept. Metrics: {now}. Record numbers of its batch: {ids}. A lower "
        "optimizer.learning_rate or method.weight usually helps."
      )
    if self.progress is not None:
      self.progress.update(t + 1, loss=now["loss"])

  def write(self, done: int) -> None:
    """Writes the means since the last call."""
    self.check_current()
    now = time.monotonic()
    seconds = max(now - self._since, 1e-9)
    means = self._averages.means()
    rows = {f"train/{name}": float(x[0]) for name, x in means.items() if x.size == 1}
    for name, x in means.items():
      if x.size > 1:
        rows.update({f"train/{name}/{i:02d}": float(v) for i, v in enumerate(x)})
    o = self._config.optimizer
    rows["train/learning_rate"] = optimizers.poly(
      o.learning_rate, o.power, self._config.train.steps, done - 1
    )
    if self._steps:
      rows["speed/images_per_s"] = self._steps * self._images / seconds
      rows["speed/steps_per_s"] = self._steps / seconds
      rows["speed/input_wait_fraction"] = min(1.0, (self._batches.wait_s - self._waited) / seconds)
      if self.progress is not None:
        self.progress.update(done, images_per_s=rows["speed/images_per_s"])
    self._writer.write_scalars(done, rows)
    self._averages.reset()
    self._since, self._steps, self._waited = now, 0, self._batches.wait_s


def _evaluator(
  config: ConfigDict,
  method: Method,
  dataset: Dataset,
  val: splits.IdList | None,
  workdir: str,
  writer: Any,
) -> Callable[[TrainState, int], float]:
  """Returns evaluate(state, step) -> mIoU; writes scalars and the picture sheet."""
  stack = method.stacks[method.evaluated]
  scores = inference.make_scores(config, stack, str(config.eval.network))
  info = dataset.info

  def evaluate(state: TrainState, step: int) -> float:
    params, stats = state.params[stack.name], state.state["batch_stats"][stack.name]
    segmenter = windows.Segmenter(
      lambda images, valid: scores(params, stats, images, valid),
      window=None if config.eval.mode == "whole" else tuple(config.eval.window),
      stride=inference.stride_of(config),
      batch=inference.rounded_batch(config, stack),
      num_classes=len(info.classes),
    )
    result = run.evaluate_ids(
      segmenter, dataset, val.ids, pictures=config.eval.pictures, title=f"evaluate step {step}"
    )
    found = confusion.scores(result.confusion)
    rows = {"val/miou": found["miou"], "val/pixel_accuracy": found["pixel_accuracy"]}
    for name, iou in zip(info.classes, found["iou"]):
      if not np.isnan(iou):
        rows[f"val/iou/{name}"] = float(iou)
    writer.write_scalars(step, rows)
    if result.shown:
      sheet = pictures.sheet(result.shown, info.classes, info.colors)
      writer.write_images(step, {"val/image_truth_prediction": sheet})
      if jax.process_index() == 0:
        pictures.write_png(pathlib.Path(workdir) / "pictures" / f"val_{step:07d}.png", sheet)
    writer.flush()
    return float(found["miou"])

  return evaluate


def _meta(
  config: ConfigDict,
  dataset: Dataset,
  split: splits.Split,
  val: splits.IdList | None,
  method: Method,
) -> dict[str, Any]:
  """What every checkpoint says of its origin."""
  lists = {"labeled": split.labeled, "unlabeled": split.unlabeled, "val": val}
  info = dataset.info
  return {
    "config": json.loads(config.to_json_best_effort()),
    "dataset": {
      "name": info.name,
      "classes": list(info.classes),
      "colors": [list(color) for color in info.colors],
      "channels": info.channels,
      "fingerprint": info.fingerprint,
      "splits": {
        use: dataclasses.asdict(ids) | {"ids": len(ids.ids), "sha256": ids.sha256}
        for use, ids in lists.items()
        if ids is not None
      },
    },
    "stacks": {name: stack.n for name, stack in method.stacks.items()},
  }


def _write_json(path: pathlib.Path, value: Any) -> None:
  if jax.process_index() == 0:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      flat.update(_flat(value, f"{prefix}{key}."))
    else:
      flat[f"{prefix}{key}"] = str(value) if isinstance(value, tuple) else value
  return flat
